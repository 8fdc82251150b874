// The schemas that Fastify validates requests with and compiles serializers from.

import { Type, type Static, type TSchema } from "typebox";

const Nullable = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T> | null>({ ...schema, nullable: true });
const StringEnum = <T extends string>(...values: T[]) => Type.Unsafe<T>({ type: "string", enum: values });

const Id = Type.String({ format: "uuid" });
const Timestamp = Type.Unsafe<Date>({ type: "string", format: "date-time" });
const Title = Type.String({ pattern: "\\S", maxLength: 200 });
const Description = Nullable(Type.String({ maxLength: 1000 }));
const Status = StringEnum("pending", "completed");
const Priority = StringEnum("low", "medium", "high");
const DueDate = Nullable(Type.String({ format: "date-time" }));
const Tags = Type.Array(Type.String({ pattern: "\\S", maxLength: 10 }), { maxItems: 20 });

export const OwnerParams = Type.Object({ user_id: Id });
export const TaskParams = Type.Object({ user_id: Id, task_id: Id });

export const ListQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 500, default: 100 }),
  status: Type.Optional(Status),
  tag: Type.Optional(Type.String()),
  cursor: Type.Optional(Type.String()),
});

const fields = {
  title: Title,
  description: Type.Optional(Description),
  status: Type.Optional(Status),
  priority: Type.Optional(Priority),
  due_date: Type.Optional(DueDate),
  tags: Type.Optional(Tags),
};
// Fastify drops the properties that such a schema does not name.
export const TaskCreate = Type.Object(fields, { additionalProperties: false });
export const TaskUpdate = Type.Partial(TaskCreate, { additionalProperties: false });

export const TaskPublic = Type.Object({
  id: Id,
  user_id: Id,
  title: Type.String(),
  description: Nullable(Type.String()),
  status: Status,
  completed: Type.Boolean(),
  priority: Priority,
  due_date: Nullable(Timestamp),
  tags: Type.Array(Type.String()),
  created_at: Timestamp,
  updated_at: Timestamp,
  completed_at: Nullable(Timestamp),
  version: Type.Integer(),
});

export const TaskPage = Type.Object({ items: Type.Array(TaskPublic), next_cursor: Nullable(Type.String()) });

export type TaskChanges = Static<typeof TaskUpdate>;
export type NewTask = Static<typeof TaskCreate>;
export type Task = Omit<Static<typeof TaskPublic>, "completed">;
