/** Everything that people see. */

import { useComputed, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Model, Summary } from "../model";
import { Boundary } from "./boundary";
import { ChatList } from "./chatList";
import { ConnectionStatus } from "./connectionLine";
import { BackButton, Conversation } from "./conversation";
import { Entering } from "./entering";
import { Mark } from "./icons";
import { MyAddress } from "./myAddress";
import { NewChat } from "./newChat";
import { NewGroup } from "./newGroup";
import { Registration } from "./registration";
import { followHistory, goToConversation, goToList, route } from "./route";
import { Elsewhere, Starting, Stopped } from "./screens";
import { texts } from "./texts";
import "./styles/index.css";

export function App({ model }: { readonly model: Model }): VNode {
  useEffect(followHistory, []);
  return (
    <Boundary>
      <Page model={model} />
    </Boundary>
  );
}

function Page({ model }: { readonly model: Model }): VNode {
  const phase = model.phase.value;
  switch (phase.kind) {
    case "starting":
      return <Starting />;
    case "new":
      return <Registration model={model} phase={phase} />;
    case "entering":
      return <Entering model={model} phase={phase} />;
    case "elsewhere":
      return <Elsewhere model={model} />;
    case "stopped":
      return <Stopped phase={phase} />;
    case "ready":
      return <Ready model={model} />;
    default:
      return phase satisfies never;
  }
}

type OpenDialog = { readonly kind: "chat"; readonly address: string } | { readonly kind: "group" } | { readonly kind: "me" } | undefined;

function Ready({ model }: { readonly model: Model }): VNode {
  const [dialog, setDialog] = useState<OpenDialog>(undefined);
  const close = (): void => setDialog(undefined);
  const started = (conversation: string): void => {
    close();
    goToConversation(conversation);
  };
  // Somebody's link: it is asked about once, and then the address is that of the list.
  useSignalEffect(() => {
    const at = route.value;
    if (at.kind !== "address") return;
    setDialog({ kind: "chat", address: at.address });
    goToList();
  });
  useWindowTitle(model);
  useEffect(() => {
    window.addEventListener("keydown", nextPane);
    return () => window.removeEventListener("keydown", nextPane);
  }, []);

  const at = route.value;
  const me = model.me.value;
  const newChat = (): void => setDialog({ kind: "chat", address: "" });
  return (
    <div class={`app app-${at.kind === "conversation" ? "conversation" : "list"}`}>
      <ConnectionStatus connection={model.connection.value} />
      <ChatList
        model={model}
        current={at.kind === "conversation" ? at.id : undefined}
        onOpen={goToConversation}
        onNewChat={newChat}
        onNewGroup={() => setDialog({ kind: "group" })}
        onMe={() => setDialog({ kind: "me" })}
      />
      <main class="main" data-pane>
        {at.kind === "conversation" ? <Current key={at.id} model={model} id={at.id} /> : <NothingOpen />}
      </main>
      {dialog?.kind === "chat" && (
        <NewChat model={model} address={dialog.address} onStarted={started} onGroup={() => setDialog({ kind: "group" })} onClose={close} />
      )}
      {dialog?.kind === "group" && <NewGroup model={model} onStarted={started} onClose={close} />}
      {dialog?.kind === "me" && me !== undefined && <MyAddress me={me} onClose={close} />}
    </div>
  );
}

function Current({ model, id }: { readonly model: Model; readonly id: string }): VNode {
  const summary = useComputed<Summary | undefined>(() => model.conversations.value.find((other) => other.id === id)).value;
  if (summary !== undefined) return <Conversation key={id} model={model} summary={summary} />;
  if (!model.loaded.value) return <div class="nothing" aria-busy="true" />;
  // One that was just started may come a moment after its id: the styles let this wait before it is seen.
  return (
    <div class="nothing nothing-later">
      <BackButton />
      <h2>{texts.conversation.gone}</h2>
      <p>{texts.conversation.goneHint}</p>
    </div>
  );
}

function NothingOpen(): VNode {
  return (
    <div class="nothing">
      <Mark />
      <h2>{texts.nothingOpen.title}</h2>
      <p>{texts.nothingOpen.hint}</p>
    </div>
  );
}

function useWindowTitle(model: Model): void {
  useSignalEffect(() => {
    document.title = texts.windowTitle(model.conversations.value.reduce((sum, summary) => sum + summary.unread, 0));
  });
}

/** F6 goes round the list, the messages and the composer, as in programs with several panes. */
function nextPane(event: KeyboardEvent): void {
  if (event.key !== "F6") return;
  const panes = [...document.querySelectorAll<HTMLElement>(".chat-link[tabindex='0'], .scroller, .composer textarea")].filter(
    (pane) => pane.offsetParent !== null,
  );
  if (panes.length === 0) return;
  event.preventDefault();
  const at = panes.findIndex((pane) => pane.contains(document.activeElement));
  const step = event.shiftKey ? panes.length - 1 : 1;
  panes[(Math.max(at, event.shiftKey ? 0 : -1) + step) % panes.length]?.focus();
}
