import { call, forgetToken, SignedOut } from "/todo-api.js";

const find = (selector) => document.querySelector(selector);
const [signIn, tasks, error] = [find("#sign-in"), find("#tasks"), find("#error")];

/** Calls Better Auth, which keeps the session in a cookie that no script can read. */
async function auth(path, body = {}) {
    const response = await fetch(`/api/auth/${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error((await response.json()).message);
}

async function show() {
    try {
        const { items } = await call("GET", "/me/tasks?sort=-created_at");
        find("#list").replaceChildren(
            ...items.map((task) => {
                const item = document.createElement("li");
                item.textContent = task.title;
                return item;
            }),
        );
    } finally {
        // Also when the API cannot answer. Somebody who is signed out gets the form after that.
        signIn.hidden = true;
        tasks.hidden = false;
    }
}

function showSignIn() {
    forgetToken();
    find("#list").replaceChildren();
    signIn.hidden = false;
    tasks.hidden = true;
}

/** Runs what a form or a button does, and shows what goes wrong. */
async function attempt(action) {
    error.textContent = "";
    try {
        await action();
    } catch (problem) {
        if (problem instanceof SignedOut) showSignIn();
        // So `fetch` fails when nothing answers, or when CORS_ORIGINS of the API does not name this page.
        else if (problem instanceof TypeError) error.textContent = "The server cannot be reached. Please try again.";
        else error.textContent = problem.message;
    }
}

function onSubmit(form, action) {
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        attempt(async () => {
            await action(Object.fromEntries(new FormData(form, event.submitter)));
            form.reset();
        });
    });
}

onSubmit(signIn, async ({ email, password, way }) => {
    await auth(way === "up" ? "sign-up/email" : "sign-in/email", { email, password, name: email });
    // A token of the one before may have come after the sign-out.
    forgetToken();
    await show();
});

onSubmit(find("#new-task"), async ({ title }) => {
    // With an id of its own, a create can be repeated without making a second task.
    await call("POST", "/me/tasks", { id: crypto.randomUUID(), title });
    await show();
});

onSubmit(find("#delete-account"), async ({ password }) => {
    await auth("delete-user", { password });
    showSignIn();
});

find("#sign-out").addEventListener("click", () =>
    attempt(async () => {
        await auth("sign-out");
        showSignIn();
    }),
);

attempt(show);
