package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// group is the faces that answer the same, the plain one first.
type group struct {
	title   string
	house   *house
	headers string
	body    []byte
	faces   []*face
}

// commonHeaders are those of a program that calls an API.
const commonHeaders = "User-Agent: Go-http-client/1.1\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n"

// groups returns the faces that are measured. Those of a group get the same
// headers, and answer with the same bytes. nginx may be nil.
func (h *house) groups(plain, gateway, nginx *process) ([]group, error) {
	sealed, err := h.sealedLinkToken()
	if err != nil {
		return nil, err
	}
	listConsents := h.group("GET /consents, an answer of 2 KB", commonHeaders, consents)
	listConsents.add("`reverse_proxy`", plain, "plainConsents", "/data/v1/consents?personalTaxId="+taxID)
	proxy := listConsents.add("`klavi_proxy`", gateway, "proxy", "/consents?personalTaxId="+taxID)
	proxy.atLeast, proxy.p99AtMost = 1, 1.1

	listInstitutions := h.group("GET /institutions, an answer of 20 KB", commonHeaders+"Authorization: Bearer "+sealed+"\r\n", institutions)
	listInstitutions.add("`reverse_proxy`", plain, "plainInstitutions", "/data/v1/links/institutions")
	scope := listInstitutions.add("`klavi_frontend`", gateway, "frontend", "/klavi/institutions")
	scope.atLeast = 1.2

	if nginx != nil {
		listConsents.add("nginx", nginx, "nginxConsents", "/data/v1/consents?personalTaxId="+taxID)
		listInstitutions.add("nginx", nginx, "nginxInstitutions", "/data/v1/links/institutions")
	}
	return []group{listConsents, listInstitutions}, nil
}

func (h *house) group(title, headers string, body []byte) group {
	return group{title: title, house: h, headers: headers, body: body}
}

// add adds a face that a program serves at the address of that name.
func (g *group) add(name string, gateway *process, address, path string) *face {
	f := &face{name: name, gateway: gateway, address: g.house.names[address], body: g.body}
	f.request = []byte("GET " + path + " HTTP/1.1\r\nHost: " + f.address + "\r\n" + g.headers + "\r\n")
	g.faces = append(g.faces, f)
	return f
}

// sealedLinkToken creates a link, as a browser does.
func (h *house) sealedLinkToken() (string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Post("http://"+h.names["frontend"]+"/klavi/links", "application/json", strings.NewReader(`{"personalTaxId":"`+taxID+`"}`))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var link struct {
		LinkToken string `json:"linkToken"`
	}
	if err := json.NewDecoder(res.Body).Decode(&link); err != nil || link.LinkToken == "" {
		return "", fmt.Errorf("creating a link: status %s without a linkToken", res.Status)
	}
	return link.LinkToken, nil
}

// check compares one answer of the face byte for byte.
func (f *face) check() error {
	c, err := dial(f.address)
	if err != nil {
		return err
	}
	defer c.close()
	var body bytes.Buffer
	if _, err := c.do(f.request, &body); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if !bytes.Equal(body.Bytes(), f.body) {
		return fmt.Errorf("%s: the answer is not that of the backend", f.name)
	}
	return nil
}
