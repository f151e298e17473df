from cli.objects import register as register
