"""Keeps addresses of users unique where no constraint can: in a database that is spread over nodes.

A constraint of a spread table has to include the column that the rows are spread by, which is the id
(docs/adr/0037-citus.md). So there a transaction that writes addresses keeps out others that do, and looks first.
"""

LOCK = "LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE"
"""Keeps out all that run it, on plain PostgreSQL and through any node of Citus, until the end of the transaction.

It lets other reads and writes through. Citus takes it on all nodes, in the same order wherever it begins, and the node
where it began releases it only when the others have committed. So its next holder sees what was written under it. An
advisory lock counts on its own node only.
"""
