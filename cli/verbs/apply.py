from cli.specs import register as register
