// The API on Fastify: its routes and schemas, over the queries of either contender.

import createError from "@fastify/error";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify from "fastify";
import {
  ListQuery, OwnerParams, TaskCreate, TaskPage, TaskParams, TaskPublic, TaskUpdate,
  type NewTask, type Task, type TaskChanges,
} from "./schemas.js";

/** The last task of a page. A JavaScript date is exact to the millisecond. */
export type Cursor = { created_at: Date; id: string };
export type Filters = { limit: number; status?: Task["status"]; tag?: string; after?: Cursor };

export interface Queries {
  list(user_id: string, filters: Filters): Promise<Task[]>;
  get(user_id: string, id: string): Promise<Task | undefined>;
  /** Resolves to undefined when the user does not exist. */
  create(user_id: string, task: NewTask): Promise<Task | undefined>;
  update(user_id: string, id: string, changes: TaskChanges): Promise<Task | undefined>;
  remove(user_id: string, id: string): Promise<Task | undefined>;
}

const TaskNotFound = createError("TASK_NOT_FOUND", "Task not found", 404);
const UserNotFound = createError("USER_NOT_FOUND", "User not found", 404);
const InvalidCursor = createError("INVALID_CURSOR", "Invalid cursor", 400);
const PastDueDate = createError("PAST_DUE_DATE", "The due date of a new task cannot be in the past", 400);

export async function serve(queries: Queries): Promise<void> {
  const app = Fastify().withTypeProvider<TypeBoxTypeProvider>();
  const tasks = "/api/:user_id/tasks";
  const task = `${tasks}/:task_id`;
  const response = { 200: TaskPublic };

  const list = { params: OwnerParams, querystring: ListQuery, response: { 200: TaskPage } };
  app.get(tasks, { schema: list }, async (request) => {
    const { limit, cursor, ...filters } = request.query;
    const after = cursor === undefined ? undefined : decodeCursor(cursor);
    const rows = await queries.list(request.params.user_id, { ...filters, after, limit: limit + 1 });
    const items = rows.slice(0, limit);
    const next_cursor = rows.length > limit ? encodeCursor(items[limit - 1]) : null;
    return { items: items.map(toPublic), next_cursor };
  });

  const create = { params: OwnerParams, body: TaskCreate, response: { 201: TaskPublic } };
  app.post(tasks, { schema: create }, async (request, reply) => {
    const { due_date } = request.body;
    if (due_date && new Date(due_date) < new Date()) throw new PastDueDate();
    const created = await queries.create(request.params.user_id, clean(request.body));
    if (!created) throw new UserNotFound();
    return reply.code(201).send(toPublic(created));
  });

  app.get(task, { schema: { params: TaskParams, response } }, async (request) => {
    const { user_id, task_id } = request.params;
    return found(await queries.get(user_id, task_id));
  });

  app.patch(task, { schema: { params: TaskParams, body: TaskUpdate, response } }, async (request) => {
    const { user_id, task_id } = request.params;
    return found(await queries.update(user_id, task_id, clean(request.body)));
  });

  app.delete(task, { schema: { params: TaskParams, response } }, async (request) => {
    const { user_id, task_id } = request.params;
    return found(await queries.remove(user_id, task_id));
  });

  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
}

function toPublic(task: Task) {
  return { ...task, completed: task.status === "completed" };
}

function found(task: Task | undefined) {
  if (!task) throw new TaskNotFound();
  return toPublic(task);
}

function clean<T extends TaskChanges>(body: T): T {
  const cleaned = { ...body };
  if (body.title !== undefined) cleaned.title = body.title.trim();
  if (body.tags !== undefined) cleaned.tags = body.tags.map((tag) => tag.trim().toLowerCase());
  return cleaned;
}

function encodeCursor({ created_at, id }: Cursor): string {
  return Buffer.from(`${created_at.toISOString()} ${id}`).toString("base64url");
}

function decodeCursor(cursor: string): Cursor {
  const [time = "", id = ""] = Buffer.from(cursor, "base64url").toString().split(" ");
  const created_at = new Date(time);
  if (Number.isNaN(created_at.valueOf()) || !/^[0-9a-f-]{36}$/.test(id)) throw new InvalidCursor();
  return { created_at, id };
}
