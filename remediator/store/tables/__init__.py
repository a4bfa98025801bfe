"""The tables, by what they are about. `schema` gathers and compiles them."""
