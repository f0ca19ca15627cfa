"""The application's tables, their migrations, and every query over them."""
