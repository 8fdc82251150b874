"""What both peers on Django's ORM have in common: the settings and the models."""
