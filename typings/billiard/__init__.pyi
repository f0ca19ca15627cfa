# billiard 4.3
