// Calls the Todo API as the user that is signed in: what a front end needs to know of tokens is all here.

import { API_URL } from "/config.js";

const RENEWED_BEFORE_END = 60_000; // milliseconds
const ATTEMPTS = 3;
const PATIENCE = 5; // seconds of a wait that nobody needs to be told of

export class SignedOut extends Error {}

/** What the API has refused. `problem` is its problem document, with a `title`, a `detail` and perhaps `errors`. */
export class Refused extends Error {
    constructor(problem) {
        super(problem.detail ?? problem.title);
        this.problem = problem;
    }
}

// In memory only: what a script can read from storage, an injected script can, too. A reload asks for a new token.
let token;
let renewAt = 0;

export function forgetToken() {
    token = undefined;
}

async function currentToken() {
    if (token === undefined || Date.now() >= renewAt) {
        const response = await fetch("/api/auth/token");
        if (response.status === 401) throw new SignedOut("You are signed out.");
        if (!response.ok) throw new Error("The sign-in does not answer. Please try again.");
        ({ token } = await response.json());
        const { iat, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
        // The life of the token, not its end, as the clock of this machine may be wrong.
        renewAt = Date.now() + (exp - iat) * 1000 - RENEWED_BEFORE_END;
    }
    return token;
}

/** The answer of the API, such as `await call("GET", "/me/tasks")`. Throws `SignedOut` and `Refused`. */
export async function call(method, path, body) {
    let isTokenRenewed = false;
    for (let attempt = 1; ; attempt++) {
        const response = await fetch(`${API_URL}/api${path}`, {
            method,
            headers: {
                Authorization: `Bearer ${await currentToken()}`,
                ...(body && { "Content-Type": "application/json" }),
            },
            body: body && JSON.stringify(body),
        });
        if (response.ok) return response.status === 204 ? undefined : response.json();
        const wait = Number(response.headers.get("Retry-After")); // seconds
        if (response.status === 401 && !isTokenRenewed) {
            // The token has expired on the way, or its key was withdrawn. A new one helps, or nothing does.
            isTokenRenewed = true;
            forgetToken();
        } else if ([429, 503].includes(response.status) && attempt < ATTEMPTS && wait <= PATIENCE) {
            // The API is busy, is asked too often, or cannot get the keys of tokens. Nobody is signed out for that.
            await new Promise((resolve) => setTimeout(resolve, wait * 1000));
        } else {
            // An error of a proxy has no problem document.
            throw new Refused(await response.json().catch(() => ({ title: response.statusText })));
        }
    }
}
