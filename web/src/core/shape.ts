/** Checks that what came from outside is what it has to be. A shape gives the value with its type, or throws `Malformed`;
 *  fields that it doesn't name are left out of what it gives. */

export class Malformed extends Error {}

export type Shape<T> = (value: unknown, at: string) => T;
export type Of<S> = S extends Shape<infer T> ? T : never;

/** `JSON.parse` takes any depth, but what encodes or stores the value again breaks where it is nested some thousand times;
 *  OlmMachine takes 128. */
const DEPTH_MAX = 64;

type Fields = Readonly<Record<string, Shape<unknown>>>;
type OfFields<F extends Fields> = { readonly [K in keyof F]: Of<F[K]> };

/** `max`: in UTF-16 units. */
export function text(max = 4_096): Shape<string> {
  return (value, at) => {
    if (typeof value !== "string" || value.length > max) throw new Malformed(`${at}: no text of up to ${max} characters`);
    return value;
  };
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isUuid(value: string): boolean {
  return UUID.test(value);
}

export const uuid: Shape<string> = (value, at) => {
  if (typeof value !== "string" || !isUuid(value)) throw new Malformed(`${at}: no uuid`);
  return value;
};

/** A whole number of at least 0, as JavaScript can tell apart from its neighbours. */
export const count: Shape<number> = (value, at) => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Malformed(`${at}: no count`);
  return value as number;
};

export const flag: Shape<boolean> = (value, at) => {
  if (typeof value !== "boolean") throw new Malformed(`${at}: neither true nor false`);
  return value;
};

export const anything: Shape<unknown> = (value) => value;

export function oneOf<const T extends string>(...values: readonly T[]): Shape<T> {
  return (value, at) => {
    const found = values.find((each) => each === value);
    if (found === undefined) throw new Malformed(`${at}: none of ${values.join(", ")}`);
    return found;
  };
}

export function list<T>(shape: Shape<T>, max = 10_000): Shape<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value) || value.length > max) throw new Malformed(`${at}: no list of up to ${max}`);
    return value.map((each, index) => shape(each, `${at}[${index}]`));
  };
}

export function dictionary<T>(shape: Shape<T>, max = 10_000): Shape<ReadonlyMap<string, T>> {
  return (value, at) => {
    const entries = Object.entries(plainObject(value, at));
    if (entries.length > max) throw new Malformed(`${at}: more than ${max} entries`);
    return new Map(entries.map(([key, each]) => [key, shape(each, `${at}.${key}`)]));
  };
}

/** What is missing, or null, is `missing`. */
export function optional<T>(shape: Shape<T>, missing: NoInfer<T>): Shape<T> {
  return (value, at) => (value === undefined || value === null ? missing : shape(value, at));
}

export function maybe<T>(shape: Shape<T>): Shape<T | null> {
  return (value, at) => (value === undefined || value === null ? null : shape(value, at));
}

export function object<F extends Fields>(fields: F): Shape<OfFields<F>> {
  return (value, at) => {
    const found = plainObject(value, at);
    const entries = Object.entries(fields).map(([name, shape]) => [name, shape(found[name], `${at}.${name}`)]);
    return Object.fromEntries(entries) as OfFields<F>;
  };
}

export function plainObject(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Malformed(`${at}: no object`);
  return value as Record<string, unknown>;
}

/** Throws Malformed. */
export function parse<T>(shape: Shape<T>, json: string, at: string): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Malformed(`${at}: no JSON`);
  }
  if (isDeep(value, DEPTH_MAX)) throw new Malformed(`${at}: nested deeper than ${DEPTH_MAX}`);
  return shape(value, at);
}

function isDeep(value: unknown, left: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return left === 0 || Object.values(value).some((each) => isDeep(each, left - 1));
}

/** Undefined where it is not of this shape. */
export function tryParse<T>(shape: Shape<T>, json: string): T | undefined {
  try {
    return parse(shape, json, "it");
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}
