"""The database: sessions, models, migrations, and every query."""
