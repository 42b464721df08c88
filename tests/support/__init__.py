"""What the tests share: databases, the marked plaintexts, and the search for them."""
