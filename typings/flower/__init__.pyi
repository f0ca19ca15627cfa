# flower 2.2
