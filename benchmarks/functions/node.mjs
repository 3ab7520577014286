// The app's routes by Node's own `streamifyResponse`, without a framework: see app.py.
import { setTimeout } from "node:timers/promises";

export const handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
  const query = new URLSearchParams(event.rawQueryString);
  const [, route, parameter] = event.rawPath.split("/");
  if (route === "items") {
    const body = JSON.stringify({ item_id: Number(parameter), q: query.get("q") ?? "" });
    const head = { statusCode: 200, headers: { "content-type": "application/json" } };
    responseStream = awslambda.HttpResponseStream.from(responseStream, head);
    responseStream.write(body); // with `end(body)` alone, this runtime (4.0.2) sends no prelude
    responseStream.end();
    return;
  }
  const head = { statusCode: 200, headers: { "content-type": "application/octet-stream" } };
  responseStream = awslambda.HttpResponseStream.from(responseStream, head);
  const piece = Buffer.alloc(Number(query.get("size")), "x");
  const pause = Number(query.get("pause") ?? 0) * 1000;
  for (let index = 0; index < Number(parameter); index++) {
    if (pause && index) await setTimeout(pause);
    if (!responseStream.write(piece)) await new Promise((resolve) => responseStream.once("drain", resolve));
  }
  responseStream.end();
});
