from cli.admin import register as register
