"""Asks a Prometheus every query of a Grafana dashboard: dashboard_queries.py PROMETHEUS DASHBOARD.

Each must be understood; those of calls, which there were, must have an answer.
"""

import json
import sys
import urllib.parse
import urllib.request

prometheus, path = sys.argv[1:]
# As Grafana fills them in for "All".
VARIABLES = {"$__rate_interval": "60s", "$instance": ".*", "$service": ".*"}


def ask(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return len(json.load(answer)["data"]["result"]), None
    except urllib.error.HTTPError as error:
        return 0, json.load(error).get("error")


with open(path) as file:
    panels = json.load(file)["panels"]
row, queries, answered, wrong = "", 0, 0, 0
for panel in panels:
    if panel["type"] == "row":
        row = panel["title"]
        continue
    found = 0
    for target in panel["targets"]:
        count, problem = ask(target["expr"])
        queries, found = queries + 1, found + count
        if problem:
            wrong += 1
            print(f"FAIL dashboard-query: {panel['title']}: {problem}")
    answered += found > 0
    if not found and row == "Calls":
        wrong += 1
        print(f"FAIL dashboard-panel: {panel['title']} shows nothing")
print(f"   {queries} queries, {answered} panels with something to show")
if not wrong:
    print("ok dashboard-queries")
