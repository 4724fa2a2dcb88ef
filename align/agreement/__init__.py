"""How far people who judge the same things agree, and what is most likely true where they do not."""
