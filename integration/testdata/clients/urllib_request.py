"""A walk with urllib.request."""

import ssl
import urllib.error
import urllib.request

from walk import plan, walk

base, ca, steps = plan()
context = ssl.create_default_context(cafile=ca) if ca else None


def ask(method, path, headers, body):
    request = urllib.request.Request(base + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, context=context) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


walk(steps, ask)
