"""SQLAlchemy's own ORM tests, run on encrypted columns: `make conformance`."""
