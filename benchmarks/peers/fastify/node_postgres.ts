// The queries with node-postgres: SQL by hand in named statements, which each connection prepares once.

import { randomUUID } from "node:crypto";
import pg from "pg";
import { serve } from "./app.js";
import type { Task } from "./schemas.js";

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 15 });

const COLUMNS = `
  id, user_id, title, description, status, priority, due_date, tags, created_at, updated_at, completed_at, version
`;

async function one(name: string, text: string, values: unknown[]): Promise<Task | undefined> {
  const { rows } = await pool.query<Task>({ name, text, values });
  return rows[0];
}

await serve({
  async list(user_id, { limit, status, tag, after }) {
    const conditions = ["user_id = $1"];
    const values: unknown[] = [user_id, limit];
    const place = (value: unknown) => `$${values.push(value)}`;
    if (status !== undefined) conditions.push(`status = ${place(status)}`);
    if (tag !== undefined) conditions.push(`tags @> ${place([tag])}`);
    if (after) conditions.push(`(created_at, id) < (${place(after.created_at)}, ${place(after.id)})`);
    const where = conditions.join(" AND ");
    const { rows } = await pool.query<Task>({
      name: ["list-tasks", status && "status", tag !== undefined && "tag", after && "after"].filter(Boolean).join("-"),
      text: `SELECT ${COLUMNS} FROM tasks WHERE ${where} ORDER BY created_at DESC, id DESC LIMIT $2`,
      values,
    });
    return rows;
  },

  get: (user_id, id) =>
    one("get-task", `SELECT ${COLUMNS} FROM tasks WHERE user_id = $1 AND id = $2`, [user_id, id]),

  async create(user_id, { title, description, status = "pending", priority = "medium", due_date, tags = [] }) {
    try {
      return await one(
        "create-task",
        `INSERT INTO tasks (id, user_id, title, description, status, priority, due_date, tags, completed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $5 = 'completed'::task_status THEN now() END)
        RETURNING ${COLUMNS}`,
        [randomUUID(), user_id, title, description, status, priority, due_date, tags],
      );
    } catch (error) {
      if (error instanceof pg.DatabaseError && error.code === "23503") return undefined;
      throw error;
    }
  },

  update(user_id, id, changes) {
    const values: unknown[] = [user_id, id];
    const assignments = ["updated_at = now()", "version = version + 1"];
    for (const [name, value] of Object.entries(changes)) {
      const place = `$${values.push(value)}`;
      assignments.push(`${name} = ${place}`);
      if (name === "status") {
        const isCompleted = `${place} = 'completed'::task_status`;
        assignments.push(`completed_at = CASE WHEN ${isCompleted} THEN coalesce(completed_at, now()) END`);
      }
    }
    return one(
      `update-task-${Object.keys(changes).join("-")}`,
      `UPDATE tasks SET ${assignments.join(", ")} WHERE user_id = $1 AND id = $2 RETURNING ${COLUMNS}`,
      values,
    );
  },

  remove: (user_id, id) =>
    one("delete-task", `DELETE FROM tasks WHERE user_id = $1 AND id = $2 RETURNING ${COLUMNS}`, [user_id, id]),
});
