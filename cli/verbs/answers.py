from cli.acts import register as register
