// A task as a device stores it, and how it is made from one of the API.

import type { RxJsonSchema, WithDeleted } from "rxdb";

export interface Task {
  id: string;
  title: string;
  description: string | null;
  status: "pending" | "completed";
  priority: "low" | "medium" | "high";
  due_date: string | null;
  tags: string[];
  /** The version that the server gave the task; 0 until it has come from there. */
  version: number;
}

export type TaskState = WithDeleted<Task>;

/** What a user can change; each of these is merged by itself. */
export const VALUES = ["title", "description", "status", "priority", "due_date", "tags"] as const;

/** Keeps most of what the API would refuse from being stored at all. */
export const schema: RxJsonSchema<Task> = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: {
    id: { type: "string", maxLength: 36 },
    title: { type: "string", minLength: 1, maxLength: 200 },
    description: { type: ["string", "null"], maxLength: 1000 },
    status: { type: "string", enum: ["pending", "completed"] },
    priority: { type: "string", enum: ["low", "medium", "high"] },
    due_date: { type: ["string", "null"] },
    // No limit: the tags of two devices may be more than 20 together. The API refuses them then.
    tags: { type: "array", items: { type: "string" } },
    version: { type: "number", minimum: 0 },
  },
  required: ["id", ...VALUES, "version"],
  additionalProperties: false,
};

/** A task as the API sends it; one that is in the trash or erased has `deleted_at`. */
export type ServerTask = Task & { deleted_at?: string | null };

export function fromServer(task: ServerTask): TaskState {
  const { id, title, description, status, priority, due_date, tags, version, deleted_at } = task;
  return { id, title, description, status, priority, due_date, tags, version, _deleted: !!deleted_at };
}

export function newTask(values: Partial<Task> & { title: string }): Task {
  return {
    id: crypto.randomUUID(),
    description: null,
    status: "pending",
    priority: "medium",
    due_date: null,
    tags: [],
    version: 0,
    ...values,
  };
}
