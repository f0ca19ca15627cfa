# kombu 5.7
