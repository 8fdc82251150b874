-- psql runs it as the superuser when the volume of the database is new.
\set owner `cat /run/secrets/todo_owner_password`
\set server `cat /run/secrets/todo_server_password`
\set auth `cat /run/secrets/auth_password`

CREATE ROLE todo_owner LOGIN PASSWORD :'owner';
CREATE ROLE todo_server LOGIN PASSWORD :'server';
CREATE DATABASE todo OWNER todo_owner;

-- For Better Auth.
CREATE ROLE auth LOGIN PASSWORD :'auth';
CREATE DATABASE auth OWNER auth;

REVOKE ALL ON DATABASE todo, auth FROM PUBLIC;
