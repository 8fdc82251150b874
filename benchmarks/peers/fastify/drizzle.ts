// The queries with Drizzle ORM on node-postgres.

import { randomUUID } from "node:crypto";
import { and, arrayContains, desc, DrizzleQueryError, eq, lt, or, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { bigint, pgEnum, pgTable, text, timestamp, uuid } from "drizzle-orm/pg-core";
import pg from "pg";
import { serve } from "./app.js";

const taskStatus = pgEnum("task_status", ["pending", "completed"]);
const taskPriority = pgEnum("task_priority", ["low", "medium", "high"]);

const users = pgTable("users", { id: uuid().primaryKey(), email: text().notNull().unique() });

const tasks = pgTable("tasks", {
  id: uuid().primaryKey().$defaultFn(() => randomUUID()),
  user_id: uuid().notNull().references(() => users.id),
  title: text().notNull(),
  description: text(),
  status: taskStatus().notNull().default("pending"),
  priority: taskPriority().notNull().default("medium"),
  due_date: timestamp({ withTimezone: true }),
  tags: text().array().notNull().default([]),
  created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  updated_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
  completed_at: timestamp({ withTimezone: true }),
  version: bigint({ mode: "number" }).notNull().default(sql`(extract(epoch FROM now()) * 1000000)::bigint`),
});

const db = drizzle({ client: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 15 }) });

const byId = (user_id: string, id: string) => and(eq(tasks.user_id, user_id), eq(tasks.id, id));
const toDate = (due_date: string | null | undefined) => (due_date == null ? due_date : new Date(due_date));

await serve({
  list: (user_id, { limit, status, tag, after }) =>
    db
      .select()
      .from(tasks)
      .where(
        and(
          eq(tasks.user_id, user_id),
          status && eq(tasks.status, status),
          tag === undefined ? undefined : arrayContains(tasks.tags, [tag]),
          after &&
            or(
              lt(tasks.created_at, after.created_at),
              and(eq(tasks.created_at, after.created_at), lt(tasks.id, after.id)),
            ),
        ),
      )
      .orderBy(desc(tasks.created_at), desc(tasks.id))
      .limit(limit),

  async get(user_id, id) {
    const [task] = await db.select().from(tasks).where(byId(user_id, id));
    return task;
  },

  async create(user_id, { due_date, ...task }) {
    try {
      const [created] = await db
        .insert(tasks)
        .values({
          ...task,
          user_id,
          due_date: toDate(due_date),
          completed_at: task.status === "completed" ? sql`now()` : null,
        })
        .returning();
      return created;
    } catch (error) {
      const cause = error instanceof DrizzleQueryError ? error.cause : error;
      if (cause instanceof pg.DatabaseError && cause.code === "23503") return undefined;
      throw error;
    }
  },

  async update(user_id, id, { due_date, ...changes }) {
    const completed_at =
      changes.status && (changes.status === "completed" ? sql`coalesce(${tasks.completed_at}, now())` : null);
    const [updated] = await db
      .update(tasks)
      .set({
        ...changes,
        due_date: toDate(due_date),
        completed_at,
        updated_at: sql`now()`,
        version: sql`${tasks.version} + 1`,
      })
      .where(byId(user_id, id))
      .returning();
    return updated;
  },

  async remove(user_id, id) {
    const [deleted] = await db.delete(tasks).where(byId(user_id, id)).returning();
    return deleted;
  },
});
