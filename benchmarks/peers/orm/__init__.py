"""Settings and models of both peers on Django's ORM."""
