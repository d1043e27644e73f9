// A TCP relay: node relay.mjs LISTEN-PORT ORIGIN-PORT
//
// Stands for the server of an origin whose encoder is another process. Killed, it takes every connection with it and
// refuses new ones, while the broadcast behind it goes on; started again, it serves what happened meanwhile.

import { connect, createServer } from "node:net";

const [listenPort, originPort] = process.argv.slice(2).map(Number);

createServer((near) => {
  const far = connect({ port: originPort, host: "127.0.0.1", noDelay: true });
  near.setNoDelay(true);
  for (const [from, to] of [[near, far], [far, near]]) {
    from.pipe(to);
    from.once("error", () => to.destroy());
    from.once("close", () => to.destroy());
  }
}).listen(listenPort, "127.0.0.1");

process.once("SIGTERM", () => process.exit(0));
