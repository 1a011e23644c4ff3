const express = require("express");
const app = express();
app.use(express.json());
app.get("/health", (request, response) => response.json({ ok: true }));
app.get("/hello/:name", (request, response) => response.json({ hello: request.params.name }));
app.listen(Number(process.env.PORT), () => console.log("listening"));
