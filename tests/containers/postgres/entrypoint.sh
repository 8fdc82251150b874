#!/bin/sh
set -eu
if [ ! -d "$PGDATA" ]; then
    # The password can be read only once where each look finds another.
    cat "$POSTGRES_PASSWORD_FILE" >/tmp/password
    initdb -U postgres --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -w -o "-c listen_addresses=''" start
    for file in /docker-entrypoint-initdb.d/*; do psql -v ON_ERROR_STOP=1 -U postgres -f "$file"; done
    pg_ctl -w stop
fi
exec "$@"
