// Requests to the Todo API, with what a device does about 401, 429 and 503.

export interface Api {
  url: string;
  user: string;
  /** A token of the sign-in; asked for a new one when the API refuses the last. */
  token?: (renew: boolean) => Promise<string>;
}

/** What the API has against a request, or against an item of a batch. */
export interface Problem {
  type: string;
  status: number;
  detail: string;
  errors?: { field: string; detail: string }[];
}

/** An answer of the API that is not what was asked for. */
export class Refusal extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

const TIMEOUT = 30_000;

export async function call<Answer>(api: Api, stop: AbortSignal, path: string, body?: unknown): Promise<Answer> {
  for (let renew = false; ; ) {
    const token = await api.token?.(renew);
    const response = await fetch(`${api.url}/api/${api.user}/${path}`, {
      method: body ? "POST" : "GET",
      headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
      body: body ? JSON.stringify(body) : undefined,
      signal: AbortSignal.any([stop, AbortSignal.timeout(TIMEOUT)]),
    });
    const answer = await response.json();
    if (response.ok) return answer;
    const seconds = Number(response.headers.get("Retry-After"));
    if (response.status === 401 && token && !renew) {
      renew = true;
    } else if ((response.status === 429 || response.status === 503) && seconds) {
      // All devices that were refused would otherwise come back at the same moment.
      await sleep(seconds * 1000 * (1 + Math.random() / 4), stop);
      renew = false;
    } else {
      throw new Refusal(answer);
    }
  }
}

function sleep(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    stop.addEventListener("abort", () => (clearTimeout(timer), reject(stop.reason)), { once: true });
  });
}
