-- After a restore, and after a failover that may have lost the last writes:
--     psql "$DATABASE_URL_DIRECT" --file=after-restore.sql
-- docs/operations.md#restore says what clients then see. It may run while servers write, and again if it was stopped.
\set ON_ERROR_STOP on
-- The last command waits for the disk, and with it all before it.
SET synchronous_commit = off;
DO $$
DECLARE
    owner uuid;
    newest bigint;
BEGIN
    FOR owner IN SELECT id FROM users
    LOOP
        -- Each cursor of before is older than the horizon, so its client fetches everything once.
        UPDATE users SET (revision, horizon) = (
            SELECT new, new FROM greatest(revision + 1, (extract(epoch FROM now()) * 1000000)::bigint) AS new
        )
        WHERE id = owner RETURNING revision INTO newest;
        -- No entity tag of before matches, and a client that has a lost version of a task takes this one for the newer.
        UPDATE tasks SET version = newest WHERE user_id = owner;
        COMMIT;
    END LOOP;
END
$$;
RESET synchronous_commit;
VACUUM ANALYZE tasks, users;
