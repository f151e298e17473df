from cli.records import register as register
