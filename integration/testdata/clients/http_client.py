"""A walk with http.client, on one connection."""

import http.client
import ssl
from urllib.parse import urlsplit

from walk import plan, walk

base, ca, steps = plan()
url = urlsplit(base)
if url.scheme == "https":
    connection = http.client.HTTPSConnection(url.netloc, context=ssl.create_default_context(cafile=ca))
else:
    connection = http.client.HTTPConnection(url.netloc)


def ask(method, path, headers, body):
    connection.request(method, url.path + path, body=body, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


walk(steps, ask)
