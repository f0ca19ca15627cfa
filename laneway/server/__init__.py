"""`laneway up`: the embedded Valkey and the processes of the platform."""
