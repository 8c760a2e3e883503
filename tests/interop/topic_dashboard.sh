# The dashboard in Debian's Chromium: every page at desktop and phone size, light and dark, by axe's rules of accessibility too; then
# with the node gone and come again. Screenshots stay in target/interop-artefacts/dashboard.

topic_dashboard() {
  local modules=target/interop-node pictures=target/interop-artefacts/dashboard
  "$here/install" chromium:chromium node:nodejs npm:npm
  if ! cmp -s "$here/dashboard/package-lock.json" "$modules/package-lock.json" || [ ! -d "$modules/node_modules" ]; then
    mkdir -p "$modules"
    cp "$here"/dashboard/package{,-lock}.json "$modules/"
    if ! (cd "$modules" && npm ci --no-audit --no-fund --silent >"$work/npm.log" 2>&1); then
      fail dashboard "npm ci: $(tail -3 "$work/npm.log" | tr '\n' '|')"
      return
    fi
  fi
  rm -rf "$pictures"
  absorb dashboard node "$here/dashboard.mjs" "$TOWPATH" "$(command -v chromium)" "$modules" "$pictures"
  echo "  screenshots: $pictures"
}
