"""Django REST Framework on Django's ORM: a ModelSerializer, a viewset and cursor pagination."""
