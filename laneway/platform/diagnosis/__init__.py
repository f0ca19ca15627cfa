"""What `laneway doctor` learns of a platform: its settings, its database and its fleet. It changes nothing."""
