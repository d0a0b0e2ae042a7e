// Shows /openapi.json: operations by tag, each with a form that calls it.

const VERBS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);

/** An element with properties and children; texts are never read as HTML. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const api = await (await fetch("/openapi.json")).json();

/** The schema itself where `schema` refers to one. */
function resolved(schema) {
  return schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

/** A value of a schema, to be edited. What contains itself is left empty. */
function example(schema, inside = []) {
  if (schema.$ref && inside.includes(schema.$ref)) return {};
  const within = schema.$ref ? [...inside, schema.$ref] : inside;
  const { type, properties = {}, items, examples, enum: choices } = resolved(schema);
  if (examples) return examples[0];
  if (choices) return choices[0];
  if (type === "array") return [example(items, within)];
  if (type === "object") {
    const pairs = Object.entries(properties).map(([key, each]) => [key, example(each, within)]);
    return Object.fromEntries(pairs);
  }
  return { integer: 0, number: 0, boolean: false }[type] ?? "";
}

const pretty = (value) => JSON.stringify(value, null, 2);

/** A schema as text: its shape, with the kinds of values in place of values. */
function shape(schema, inside = []) {
  if (schema.$ref && inside.includes(schema.$ref)) return "…";
  const within = schema.$ref ? [...inside, schema.$ref] : inside;
  const { type, format, properties, items, additionalProperties, enum: choices } = resolved(schema);
  if (type === "array") return [shape(items, within)];
  if (properties) {
    const pairs = Object.entries(properties).map(([key, each]) => [key, shape(each, within)]);
    return Object.fromEntries(pairs);
  }
  if (additionalProperties) return { "…": shape(additionalProperties, within) };
  return choices ? choices.join(" | ") : [type, format].filter(Boolean).join(", ");
}

/** What a body may begin as: an example, or nothing where that would be most of a page. */
function draft(schema) {
  const text = pretty(example(schema));
  return text.split("\n").length > 30 ? "{}" : text;
}

const schemaOf = (content) => content?.content?.["application/json"]?.schema;

/** The form of an operation; `show` gets what came back. */
function form(path, verb, operation) {
  const inputs = operation.parameters.map((parameter) => [
    parameter,
    element("input", { name: parameter.name, required: Boolean(parameter.required) }),
  ]);
  const body = schemaOf(operation.requestBody);
  const text = body && element("textarea", { value: draft(body), spellcheck: false });
  const answer = element("pre", { hidden: true });
  const reply = schemaOf(operation.responses["200"]);
  const made = element(
    "form",
    {},
    ...inputs.map(([{ name, in: place }, input]) =>
      element("label", {}, element("span", {}, `${name} (${place})`), input),
    ),
    ...(text ? [element("label", {}, "Body", text)] : []),
    element("button", {}, "Send"),
    answer,
    ...(body ? [element("p", {}, "Takes"), element("pre", {}, pretty(shape(body)))] : []),
    element("p", {}, reply ? "Answers" : "Answers without a body."),
    ...(reply ? [element("pre", {}, pretty(shape(reply)))] : []),
  );
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.hidden = false;
    answer.textContent = "…";
    answer.textContent = await send(path, verb, inputs, text?.value).catch(String);
  });
  return made;
}

/** Call an operation; gives status and body as text. */
async function send(path, verb, inputs, body) {
  let address = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [{ name, in: place }, { value }] of inputs) {
    if (place === "path") {
      // A resource's name may stand for several segments.
      address = address.replace(`{${name}}`, value.split("/").map(encodeURIComponent).join("/"));
    } else if (value && place === "header") {
      headers[name] = value;
    } else if (value) {
      query.set(name, value);
    }
  }
  const token = byId("token").value.trim();
  const reply = await fetch(query.size ? `${address}?${query}` : address, {
    method: verb.toUpperCase(),
    headers: {
      ...headers,
      ...(token && { "x-api-key": token }),
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body || undefined,
  });
  const text = await reply.text();
  try {
    return `${reply.status}\n${pretty(JSON.parse(text))}`;
  } catch {
    return `${reply.status}\n${text}`;
  }
}

/** One operation, closed; its form is made when it is opened first. */
function entry(path, verb, operation) {
  const made = element(
    "details",
    {},
    element(
      "summary",
      {},
      element("span", { className: "verb" }, verb.toUpperCase()),
      element("span", { className: "path" }, path),
      element("span", { className: "name" }, operation.summary),
    ),
  );
  made.addEventListener("toggle", () => made.append(form(path, verb, operation)), { once: true });
  return made;
}

function find() {
  const wanted = byId("find").value.toLowerCase();
  for (const each of document.querySelectorAll("details")) {
    each.hidden = !each.querySelector("summary").textContent.toLowerCase().includes(wanted);
  }
}

document.title = api.info.title;
byId("title").textContent = `${api.info.title} ${api.info.version}`;
byId("description").textContent = api.info.description;
byId("operations").replaceChildren(
  ...api.tags.map(({ name }) =>
    element(
      "section",
      {},
      element("h2", {}, name),
      ...Object.entries(api.paths).flatMap(([path, operations]) =>
        VERBS.filter((verb) => operations[verb]?.tags.includes(name)).map((verb) =>
          entry(path, verb, operations[verb]),
        ),
      ),
    ),
  ),
);
byId("find").addEventListener("input", find);
