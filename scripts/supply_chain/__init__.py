"""What the project is made of: an audit of what is installed, and a bill of materials. Both read files only."""
