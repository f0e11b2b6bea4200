// Starts Swagger UI on the document of this API. A file of its own, so that the page needs no inline script.
"use strict";

const place = document.getElementById("swagger-ui");
window.SwaggerUIBundle({
  url: place.dataset.openapi,
  domNode: place,
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null, // the badge would ask another host
  presets: [window.SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
