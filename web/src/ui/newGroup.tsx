/** The dialog that starts a group: a name, and addresses that become chips. */

import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Model } from "../model";
import { accountIn, ADDRESS_CHARS_MAX, shortAddress, splitAddresses } from "./addresses";
import { Dialog } from "./dialog";
import { Field, SubmitButton, useSending } from "./form";
import { CloseIcon } from "./icons";
import { hueClass } from "./people";
import { texts } from "./texts";

const TITLE_CHARS_MAX = 256;

interface Props {
  readonly model: Model;
  readonly onStarted: (conversation: string) => void;
  readonly onClose: () => void;
}

export function NewGroup(props: Props): VNode {
  const [title, setTitle] = useState("");
  const [people, setPeople] = useState<readonly string[]>([]);
  const [typed, setTyped] = useState("");
  const [titleWrong, setTitleWrong] = useState<string | undefined>(undefined);
  const [peopleWrong, setPeopleWrong] = useState<string | undefined>(undefined);
  const field = useRef<HTMLInputElement>(null);
  const sending = useSending();

  /** Makes chips of what are addresses; the rest stays in the field, with what is wrong with it. */
  const take = (text: string): { all: readonly string[]; rest: string } => {
    const all = new Map(people.map((address) => [accountIn(address) ?? address, address]));
    const rest: string[] = [];
    for (const address of splitAddresses(text)) {
      const account = accountIn(address);
      if (account === undefined) rest.push(address);
      else if (!all.has(account)) all.set(account, address);
    }
    const chips = [...all.values()];
    setPeople(chips);
    setTyped(rest.join(" "));
    setPeopleWrong(rest[0] === undefined ? undefined : texts.newGroup.notAnAddress(rest[0].slice(0, 60)));
    return { all: chips, rest: rest.join(" ") };
  };

  const remove = (address: string): void => {
    setPeople(people.filter((other) => other !== address));
    setPeopleWrong(undefined);
    sending.clear();
    field.current?.focus();
  };

  const submit = (event: Event): void => {
    event.preventDefault();
    const { all, rest } = take(typed);
    if (title.trim() === "") setTitleWrong(texts.newGroup.nameMissing);
    if (rest === "" && all.length === 0) setPeopleWrong(texts.newGroup.peopleMissing);
    if (title.trim() === "" || rest !== "" || all.length === 0) return;
    sending.send(async () => props.onStarted(await props.model.startGroup(title.trim(), all)));
  };

  const typing = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    const ends = event.key === "Enter" || event.key === "," || event.key === " ";
    if (ends && typed.trim() !== "") {
      event.preventDefault();
      take(typed);
    } else if (event.key === "Backspace" && typed === "" && people.length > 0) {
      setPeople(people.slice(0, -1));
    }
  };

  return (
    <Dialog title={texts.newGroup.title} onClose={props.onClose}>
      <form class="form" onSubmit={submit} noValidate>
        <Field
          label={texts.newGroup.name}
          value={title}
          error={titleWrong}
          onValue={(value) => {
            setTitle(value);
            setTitleWrong(undefined);
          }}
          attributes={{ autoFocus: true, autocomplete: "off", maxLength: TITLE_CHARS_MAX }}
        />
        <Field
          label={texts.newGroup.people}
          hint={texts.newGroup.hint}
          value={typed}
          error={peopleWrong ?? sending.error}
          input={field}
          onValue={(value) => {
            setTyped(value);
            setPeopleWrong(undefined);
            sending.clear();
          }}
          attributes={{
            autocomplete: "off",
            spellcheck: false,
            onKeyDown: typing,
            onPaste: (event) => {
              const pasted = event.clipboardData?.getData("text/plain") ?? "";
              if (typed !== "" || !splitAddresses(pasted).some((address) => accountIn(address) !== undefined)) return;
              event.preventDefault();
              take(pasted);
            },
            maxLength: ADDRESS_CHARS_MAX,
          }}
        >
          {people.length > 0 && (
            <ul class="chips" aria-label={texts.newGroup.chips}>
              {people.map((address) => (
                <li class="chip" key={address}>
                  <span class={`chip-dot ${hueClass(accountIn(address) ?? address)}`} />
                  <bdi>{shortAddress(address)}</bdi>
                  <button type="button" class="chip-remove" aria-label={texts.newGroup.remove(shortAddress(address))} onClick={() => remove(address)}>
                    <CloseIcon />
                  </button>
                </li>
              ))}
            </ul>
          )}
        </Field>
        <div class="actions">
          <SubmitButton busy={sending.busy} label={texts.newGroup.submit} />
        </div>
      </form>
    </Dialog>
  );
}
