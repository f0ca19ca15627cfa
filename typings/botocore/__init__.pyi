# botocore 1.43
