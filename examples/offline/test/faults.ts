// A proxy between a device and the API that loses requests and answers, by chance or by order.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** "before" loses the request, "after" its answer; anything else is called and awaited in place of the API. */
export type Fault = "before" | "after" | ((forward: () => Promise<Answer>) => Promise<Answer>);
export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

const KEPT = ["authorization", "content-type", "if-match", "idempotency-key"];

export class Faults {
  /** The part of all requests that never arrive, and the part of all answers that get lost. */
  before = 0;
  after = 0;
  isOffline = false;
  /** What happens to the next requests whose path ends so. */
  readonly orders: [string, Fault][] = [];
  /** The path of each request that arrived, with its body. */
  readonly arrived: [string, string][] = [];
  private readonly server = createServer((request, response) => void this.serve(request, response));

  constructor(
    private readonly target: string,
    private readonly random: () => number = Math.random,
  ) {}

  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const forward = async (): Promise<Answer> => {
      this.arrived.push([request.url!, body]);
      const headers = KEPT.flatMap((name) => (request.headers[name] ? [[name, request.headers[name] as string]] : []));
      const answer = await fetch(this.target + request.url, {
        method: request.method,
        headers: headers as [string, string][],
        body: body || undefined,
      });
      const retryAfter = answer.headers.get("Retry-After");
      return {
        status: answer.status,
        headers: { "Content-Type": "application/json", ...(retryAfter && { "Retry-After": retryAfter }) },
        body: await answer.text(),
      };
    };
    const fault = this.isOffline ? "before" : this.ordered(request.url!);
    try {
      if (fault === "before" || (!fault && this.random() < this.before)) throw new Error("lost");
      const answer = typeof fault === "function" ? await fault(forward) : await forward();
      if (fault === "after" || (!fault && this.random() < this.after) || this.isOffline) throw new Error("lost");
      response.writeHead(answer.status, answer.headers).end(answer.body);
    } catch {
      request.socket.destroy();
    }
  }

  private ordered(url: string): Fault | undefined {
    const index = this.orders.findIndex(([end]) => url.split("?")[0].endsWith(end));
    return index < 0 ? undefined : this.orders.splice(index, 1)[0][1];
  }
}
