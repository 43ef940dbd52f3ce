"""What is looked at and done before sharding, one module a data type."""
