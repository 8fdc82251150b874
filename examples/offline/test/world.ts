// What the tests have in common: a server, devices behind proxies, and a writer that speaks plain HTTP.

import { randomUUID } from "node:crypto";
import type { Api } from "../api.js";
import { openDevice, type Device } from "../device.js";
import { fromServer, type ServerTask, type Task, type TaskState, VALUES } from "../task.js";
import { Faults } from "./faults.js";

export const TIMES = { pollSeconds: 3600, retrySeconds: 0.02 };

/** A device that loses its connection and is restarted, but never its data. */
export class TestDevice {
  device!: Device;

  private constructor(
    readonly name: string,
    readonly api: Api,
    readonly faults: Faults,
    private readonly times: typeof TIMES,
  ) {}

  static async open(api: Api, name: string = randomUUID(), random?: () => number, times = TIMES): Promise<TestDevice> {
    const faults = new Faults(api.url, random);
    const made = new TestDevice(name, { ...api, url: await faults.open() }, faults, times);
    await made.start();
    return made;
  }

  async start(): Promise<void> {
    this.device = await openDevice(this.name, this.api, this.times);
  }

  async restart(): Promise<void> {
    await this.device.database.close();
    await this.start();
  }

  async close(): Promise<void> {
    await this.device.database.close();
    this.faults.close();
  }

  get tasks() {
    return this.device.tasks;
  }

  async get(id: string): Promise<Task | undefined> {
    return (await this.tasks.findOne(id).exec())?.toMutableJSON();
  }

  async change(id: string, values: Partial<Task>): Promise<void> {
    await (await this.tasks.findOne(id).exec())?.incrementalPatch(values);
  }

  async delete(id: string): Promise<void> {
    await (await this.tasks.findOne(id).exec())?.incrementalRemove();
  }

  /** Sends what there is to send, then gets what there is to get. */
  async sync(): Promise<void> {
    await this.device.replication.awaitInSync();
    this.device.replication.reSync();
    await this.device.replication.awaitInSync();
  }
}

/** The API, asked directly, by a client that repeats what was lost. */
export class Server {
  constructor(readonly api: Api) {}

  async ask(method: string, path: string, body?: object, headers: Record<string, string> = {}) {
    const token = await this.api.token?.(false);
    for (;;) {
      try {
        const response = await fetch(`${this.api.url}/api/${this.api.user}/${path}`, {
          method,
          headers: {
            ...(body && { "Content-Type": "application/json" }),
            ...(token && { Authorization: `Bearer ${token}` }),
            ...headers,
          },
          body: body && JSON.stringify(body),
        });
        const content = await response.text();
        return { status: response.status, answer: content ? JSON.parse(content) : undefined };
      } catch {
        // Lost on its way there or back; the headers make a repeat harmless.
      }
    }
  }

  async get(id: string): Promise<ServerTask | undefined> {
    const { status, answer } = await this.ask("GET", `tasks/${id}`);
    return status === 200 ? answer : undefined;
  }

  create(task: Task) {
    const { version: _, ...values } = task;
    return this.ask("POST", "tasks", values);
  }

  /** Changes the task as it is now; null if there is no such task. */
  async change(id: string, decide: (task: ServerTask) => Partial<Task>): Promise<ServerTask | null> {
    const task = await this.get(id);
    if (!task) return null;
    const headers = { "If-Match": `"${task.version}"`, "Idempotency-Key": randomUUID() };
    const { status, answer } = await this.ask("PATCH", `tasks/${id}`, decide(task), headers);
    if (status === 412) return this.change(id, decide);
    return status === 200 ? answer : null;
  }

  delete(id: string) {
    return this.ask("DELETE", `tasks/${id}`, undefined, { "Idempotency-Key": randomUUID() });
  }

  restore(id: string) {
    return this.ask("POST", `trash/${id}/restore`, undefined, { "Idempotency-Key": randomUUID() });
  }

  /** All live tasks, by id. */
  async all(): Promise<Map<string, TaskState>> {
    const found = new Map<string, TaskState>();
    let cursor: string | null = null;
    do {
      const { answer } = await this.ask("GET", `tasks?limit=500${cursor ? `&cursor=${cursor}` : ""}`);
      for (const task of answer.items) found.set(task.id, fromServer(task));
      cursor = answer.next_cursor;
    } while (cursor);
    return found;
  }
}

/** One text for each task, in the order of the ids, to compare two copies by. */
export function copy(tasks: Iterable<Task>): string[] {
  const names = ["id", ...VALUES, "version"] as const;
  return [...tasks].map((task) => JSON.stringify(names.map((name) => task[name]))).sort();
}

export async function copyOf(device: TestDevice): Promise<string[]> {
  return copy((await device.tasks.find().exec()).map((task) => task.toMutableJSON()));
}

export function apiFromArguments(): Api {
  const [url, user] = [process.env.TODO_URL, process.env.TODO_USER];
  if (!url || !user) throw new Error("Set TODO_URL and TODO_USER.");
  const token = process.env.TODO_TOKEN;
  return { url, user, ...(token && { token: async () => token }) };
}
