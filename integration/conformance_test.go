package integration

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// conformanceResults are what `caddy klavi conformance --json` prints.
type conformanceResults struct {
	OK, Failed, Skipped int
	Stopped             string
	Lines               []struct {
		ID, Category, What, Verdict, Note string
		Got                               []struct {
			Status int
			Type   string
		}
	}
}

// conformance runs the command as a shell would against the site called app, as Maria.
func (g *gateway) conformance(link string, more ...string) conformanceResults {
	g.t.Helper()
	cmd := &cobra.Command{Use: "klavi"}
	caddycmd.Commands()["klavi"].CobraFunc(cmd)
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	args := []string{"conformance", "--json", "--target", g.url("app", "/klavi"), "--link-token", link}
	for i := 0; i < len(asMaria); i += 2 {
		args = append(args, "--header", asMaria[i]+": "+asMaria[i+1])
	}
	cmd.SetArgs(append(args, more...))
	failed := cmd.Execute()
	var c conformanceResults
	if err := json.Unmarshal(out.Bytes(), &c); err != nil || c.Stopped != "" {
		g.t.Fatalf("%v: %.300s %s", err, out.String(), errs.String())
	}
	if (failed != nil) != (c.Failed > 0) {
		g.t.Errorf("got %v with %d lines failed", failed, c.Failed)
	}
	wantNowhere(g.t, "what the command prints", out.String()+errs.String(), link, asMaria[3])
	return c
}

func (c conformanceResults) verdict(id string) string {
	for _, l := range c.Lines {
		if l.ID == id {
			return l.Verdict
		}
	}
	return "absent"
}

// consents counts those that Klavi created, and those that it was asked for.
func (g *gateway) consents() (created, asked int) {
	g.t.Helper()
	for _, r := range g.atKlavi("POST", "/consents") {
		asked++
		if r.Status == 200 {
			created++
		}
	}
	return created, asked
}

func (g *gateway) wantConformance(c conformanceResults, least int) {
	g.t.Helper()
	for _, l := range c.Lines {
		if l.Verdict == "FAIL" {
			g.t.Errorf("%s %s: got FAIL (%s) %+v", l.ID, l.What, l.Note, l.Got)
		}
	}
	if c.OK < least {
		g.t.Errorf("got %d lines right, %d skipped, want at least %d right", c.OK, c.Skipped, least)
	}
}

// The gateway is what the corpus wants, and no consent comes of it unless asked for.
func TestConformance(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	open := g.link().field("linkToken")
	fixed := g.do("POST", g.url("app", "/klavi/links"), `{"institutionCode":"341"}`, asMaria...).field("linkToken")

	g.wantConformance(g.conformance(open), 180)
	if created, asked := g.consents(); created != 0 || asked != 1 {
		t.Errorf("got %d of %d consents created, want 0 of the 1 that asks whether the link is for one institution", created, asked)
	}
	c := g.conformance(fixed)
	g.wantConformance(c, 90)
	if created, asked := g.consents(); created != 0 || asked != 1 || c.verdict("XJ20") != "skipped" {
		t.Errorf("got %d of %d consents created and XJ20 %s, want none, and what could create some skipped", created, asked, c.verdict("XJ20"))
	}
	c = g.conformance(fixed, "--create-consents")
	g.wantConformance(c, 190)
	if created, _ := g.consents(); created == 0 || c.verdict("A2") != "ok" || c.verdict("XJ20") != "ok" {
		t.Errorf("got %d consents, A2 %s, XJ20 %s, want some and ok", created, c.verdict("A2"), c.verdict("XJ20"))
	}
}

// What many would write in place of the gateway: a reverse_proxy with the link
// token in it. It serves what it must, and much more.
func TestConformanceOfAPlainProxy(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	i, end := strings.Index(site, "\tklavi_frontend /klavi {"), strings.Index(site, "\thandle_errors {")
	g := start(t, site[:i]+`
	handle_path /klavi/* {
		route {
			uri path_regexp ^/institutions$ /links/institutions
			rewrite * /data/v1{uri}
			reverse_proxy 127.0.0.1:{{klavi}}
		}
	}
`+site[end:])
	access := g.do("POST", g.url("klavi", "/data/v1/auth"), `{"accessKey":"sandbox-access-key","secretKey":"`+testSecret+`"}`).field("accessToken")
	link := g.do("POST", g.url("klavi", "/data/v1/links"), `{"personalTaxId":"`+testCPF+`","redirectURL":"https://app.example.com/connected","externalInfo":{}}`,
		"Authorization", "Bearer "+access).field("linkToken")
	c := g.conformance(link)
	for _, id := range []string{
		"P03", "P29", "P43", "P45", "P47", "XP02", "XP04", "XP12", // paths
		"M01", "M05", "M11", "H19", "B01", "B03", "T02", "XJ20", "XR01", "XC03", "XT02", "XT18", "XO01", "XO10",
	} {
		if got := c.verdict(id); got != "FAIL" {
			t.Errorf("%s: got %s, want FAIL", id, got)
		}
	}
	for _, id := range []string{"A1", "A3", "H11", "H17", "T06", "XW03", "XO14", "XT10"} { // of the HTTP server, or served rightly
		if got := c.verdict(id); got != "ok" {
			t.Errorf("%s: got %s, want ok", id, got)
		}
	}
	if created, asked := g.consents(); created != 0 || asked < 50 {
		t.Errorf("got %d of %d consents created, want none of many", created, asked)
	}
	var kinds []string
	for _, l := range c.Lines {
		if l.Verdict == "FAIL" && !slices.Contains(kinds, l.Category) {
			kinds = append(kinds, l.Category)
		}
	}
	if len(kinds) < 9 {
		t.Errorf("got lines failed of %q, want of nearly all categories", kinds)
	}
}
