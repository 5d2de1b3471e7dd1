// The Node server that side-by-side measures: one process, the `ws` package, no permessage-deflate. It speaks as the floor does: `g...` goes to everybody
// else, `d` with eight digits to one member, whose number is the path of its upgrade.
//
//   node server.js HOST PORT
'use strict';
const { WebSocketServer, WebSocket } = require('ws');

const [host, port] = process.argv.slice(2);
const members = new Map();
const server = new WebSocketServer({ host, port: Number(port), perMessageDeflate: false, clientTracking: true, backlog: 4096 });

server.on('connection', (socket, request) => {
  const number = Number(request.url.slice(1));
  members.set(number, socket);
  socket.on('message', (data) => {
    if (data[0] === 0x64) {
      const peer = members.get(Number(data.subarray(1, 9).toString()));
      if (peer) peer.send(data, { binary: false });
      return;
    }
    for (const member of server.clients) {
      if (member !== socket && member.readyState === WebSocket.OPEN) member.send(data, { binary: false });
    }
  });
  socket.on('close', () => members.delete(number));
  socket.on('error', () => {});
});
