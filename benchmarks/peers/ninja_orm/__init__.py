"""Django Ninja on Django's ORM, with plain views and threads, as in its documentation."""
