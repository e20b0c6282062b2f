package sandbox

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestEveryEndpointRefusesOtherTokens(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	_, link := tt.link(access, `{"personalTaxId":"`+testCPF+`"}`)
	for _, e := range endpoints {
		if e.token == noToken {
			continue
		}
		target := apiPrefix + strings.ReplaceAll(e.path, "{id}", "some-id")
		wrong := map[string]string{"none": "", "invented": "a.b.c", "other kind": link}
		right := access
		if e.token == linkToken {
			wrong["other kind"], right = access, link
		}
		for name, token := range wrong {
			t.Run(e.method+" "+e.path+" "+name, func(t *testing.T) {
				resp, body := tt.do(e.method, target, token, "{}")
				if resp.StatusCode != 401 {
					t.Fatalf("got %d, want 401", resp.StatusCode)
				}
				for _, want := range []string{`"statusCode":401`, `"error":"Unauthorized"`, `"message":"`} {
					if !strings.Contains(body, want) {
						t.Errorf("got %s, want %s in it", body, want)
					}
				}
			})
		}
		if resp, _ := tt.do(e.method, target, right, "{}"); resp.StatusCode == 401 {
			t.Errorf("%s %s: got 401 with the %s token, want something else", e.method, e.path, e.token)
		}
	}
}

func TestLogin(t *testing.T) {
	tt := newTester(t, Options{AccessKey: "a", SecretKey: "s"})
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"accessKey":"a","secretKey":"s"}`, 200, `"expireIn":1800`},
		{`{"accessKey":"a","secretKey":"x"}`, 401, `{"statusCode":401,"error":"Unauthorized","message":"Invalid accessKey or secretKey"}`},
		{`{"accessKey":"x","secretKey":"s"}`, 401, "Invalid accessKey or secretKey"},
		{`{"AccessKey":"a","secretKey":"s"}`, 400, "accessKey should not be empty"},
		{`{"accessKey":"a"}`, 400, "secretKey should not be empty"},
		{`{"accessKey":1,"secretKey":"s"}`, 400, "accessKey has the wrong type"},
		{`{"accessKey"`, 400, "not valid JSON"},
		{`[]`, 400, "must be a JSON object"},
		{``, 400, "accessKey should not be empty"},
	} {
		resp, got := tt.do("POST", "/data/v1/auth", "", tc.body)
		if resp.StatusCode != tc.status || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %d %s, want %d %s", tc.body, resp.StatusCode, got, tc.status, tc.want)
		}
	}
}

func TestTokensAreJWTsAndExpire(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		t.Fatalf("got %d segments, want 3", len(parts))
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || !strings.Contains(string(head), "ES256") {
		t.Errorf("got header %s (%v), want ES256", head, err)
	}
	newer := tt.call("GET", "/data/v1/refresh", access, "", 200)["accessToken"].(string)
	_, link := tt.link(access, `{}`)
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"29m50s"}`, 200)
	tt.call("GET", "/data/v1/consents", newer, "", 200)
	tt.list("/data/v1/links/institutions", link)
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"11s"}`, 200)
	tt.call("GET", "/data/v1/consents", newer, "", 401)
	tt.call("GET", "/data/v1/links/institutions", link, "", 401)
	tt.call("GET", "/data/v1/refresh", access, "", 401)
	tt.login()
}

func TestAuthorizationMustBeOneBearer(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	for name, values := range map[string][]string{
		"twice": {"Bearer " + access, "Bearer " + access}, "basic": {"Basic " + access}, "bare": {access},
	} {
		r := httptest.NewRequest("GET", "/data/v1/consents", nil)
		r.Header["Authorization"] = values
		w := httptest.NewRecorder()
		tt.s.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Errorf("%s: got %d, want 401", name, w.Code)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	for _, target := range []string{
		"GET /", "GET /data/v1", "GET /data/v1/consents/", "GET /data/v1//consents", "GET /data/v1/consent%73", "PUT /data/v1/consents",
		"DELETE /data/v1/consents/x", "GET /data/v1/consents/x/y", "POST /data/v1/tasks/mfa/x", "GET /data/v1/auth", "HEAD /data/v1/consents",
		"GET /data/analysis/v1/events",
	} {
		method, path, _ := strings.Cut(target, " ")
		if resp, body := tt.do(method, path, access, ""); resp.StatusCode != 404 {
			t.Errorf("%s: got %d %s, want 404", target, resp.StatusCode, body)
		}
	}
}

func TestCreateLink(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{`{}`, 200, `"linkURL":"http://klavi.test/path?v=`},
		{`{"personalTaxId":"258.722.521-37","phone":"+5511987654321","email":"a@b.c","connectionKey":"k","unknown":1}`, 200, `"linkId":"`},
		{`{"businessTaxId":"12.ABC.345/01DE-35"}`, 200, `"linkToken":"`},
		{`{"personalTaxId":"123"}`, 400, "Invalid personalTaxId"},
		{`{"businessTaxId":"123"}`, 400, "Invalid businessTaxId"},
		{`{"phone":"11987654321"}`, 400, "Invalid phone"},
		{`{"email":"nobody"}`, 400, "Invalid email"},
		{`{"phone":5}`, 400, "phone has the wrong type"},
		{`{"redirectURL":"/relative"}`, 400, "Invalid redirectURL"},
		{`{"redirectURL":"javascript:alert(1)"}`, 400, "Invalid redirectURL"},
		{`{"redirectURL":"myapp://done"}`, 200, `"linkId":"`},
		{`{"appLink":"https://app.example/open"}`, 400, "appRedirectURLKey"},
		{`{"externalInfo":"text"}`, 400, "externalInfo"},
		{`{"institutionCode":"999"}`, 416, `"statusCode":4004`},
		{`{"institutionCode":"104"}`, 416, `"statusCode":4004`},
		{`{"productsCallbackURL":{"all":"https://h.example/r"}}`, 200, `"linkId":"`},
		{`{"productsCallbackURL":{"pf_loans":"http://127.0.0.1:8081/r","other":"http://[::1]/r"}}`, 200, `"linkId":"`},
		{`{"productsCallbackURL":{"all":"https://h.example/r","other":"https://h.example/o"}}`, 416, `"statusCode":4006`},
		{`{"productsCallbackURL":{"all":"https://h.example/r","pf_loans":"https://h.example/o"}}`, 416, `"statusCode":4006`},
		{`{"productsCallbackURL":{"all":"http://h.example/r"}}`, 416, `"statusCode":4006`},
		{`{"productsCallbackURL":{"loans":"https://h.example/r"}}`, 416, `"statusCode":4006`},
		{`{"productsCallbackURL":"https://h.example/r"}`, 416, `"error":"Invalid productsCallbackURL"`},
		{`{"productsCallbackUrl":"ignored, as it is misspelt"}`, 200, `"linkId":"`},
	} {
		resp, got := tt.do("POST", "/data/v1/links", access, tc.body)
		if resp.StatusCode != tc.status || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %d %s, want %d %s", tc.body, resp.StatusCode, got, tc.status, tc.want)
		}
	}
	id, _ := tt.link(access, `{"personalTaxId":"258.722.521-37","externalInfo":{"a":1}}`)
	got := tt.call("GET", "/data/v1/links/"+id, access, "", 200)
	if got["personalTaxId"] != testCPF || fmt.Sprint(got["externalInfo"]) != "map[a:1]" {
		t.Errorf("got %v, want the CPF as digits and externalInfo", got)
	}
	tt.call("GET", "/data/v1/links/unknown", access, "", 404)
}

func TestInstitutions(t *testing.T) {
	tt := newTester(t, Options{})
	_, token := tt.link(tt.login(), `{}`)
	seen := map[string]bool{}
	for _, inst := range tt.list("/data/v1/links/institutions", token) {
		code := inst["institutionCode"].(string)
		seen[code] = true
		keys := []string{"name", "avatar", "isBeta", "isOutage", "institutionType", "parentOrganizationName", "parentOrganizationId", "organizationName", "organizationId"}
		if inst["institutionType"] == 1.0 {
			keys = append(keys, "businessType", "availableResources")
		} else if _, ok := inst["businessType"]; ok {
			t.Errorf("%s: got a businessType, want none for Open Data", code)
		}
		for _, k := range keys {
			if _, ok := inst[k]; !ok {
				t.Errorf("%s: got no %s, want it", code, k)
			}
		}
		if inst["isOutage"] != (code == "104") {
			t.Errorf("%s: got isOutage %v", code, inst["isOutage"])
		}
		resp, body := tt.do("GET", strings.TrimPrefix(inst["avatar"].(string), "http://klavi.test"), "", "")
		if resp.StatusCode != 200 || !strings.HasPrefix(body, "<svg") {
			t.Errorf("%s: avatar: got %d %s", code, resp.StatusCode, body)
		}
	}
	if len(seen) != len(institutions) {
		t.Errorf("got %d institutions, want %d different ones", len(seen), len(institutions))
	}
}

func TestCreateConsent(t *testing.T) {
	tt := newTester(t, Options{})
	_, token := tt.link(tt.login(), `{}`)
	base := map[string]string{
		"externalTrackId": `"t"`, "personalTaxId": `"` + testCPF + `"`, "institutionCode": `"001"`, "redirectURL": `"https://app.example/"`,
	}
	for _, tc := range []struct {
		name, key, value string
		status           int
		want             string
	}{
		{"good", "", "", 200, `"consentRedirectURL":"http://klavi.test/authorise?ticket=`},
		{"repeated track id", "externalTrackId", `"taken"`, 409, `"statusCode":409`},
		{"no track id", "externalTrackId", `""`, 400, "externalTrackId should not be empty"},
		{"no cpf", "personalTaxId", `null`, 400, "personalTaxId should not be empty"},
		{"no institution", "institutionCode", `""`, 400, "institutionCode should not be empty"},
		{"no redirect", "redirectURL", `""`, 400, "redirectURL should not be empty"},
		{"relative redirect", "redirectURL", `"back"`, 400, "Invalid redirectURL"},
		{"unknown institution", "institutionCode", `"999"`, 416, `"statusCode":4004`},
		{"outage", "institutionCode", `"104"`, 416, `"statusCode":4004`},
		{"limit", "institutionCode", `"237"`, 416, `"statusCode":4003`},
		{"open data", "institutionCode", `"323"`, 416, `"statusCode":4004`},
		{"validity 12", "validityPeriod", `12`, 200, `"consentId":"`},
		{"validity 0", "validityPeriod", `0`, 200, `"expireAt":""`},
		{"validity 6", "validityPeriod", `6`, 400, "validityPeriod"},
		{"validity 0.5", "validityPeriod", `0.5`, 400, "validityPeriod"},
		{"metadata", "clientMetadata", `{"ip":"127.0.0.1"}`, 200, `"consentId":"`},
		{"phone", "phone", `"1"`, 400, "Invalid phone"},
	} {
		fields := map[string]string{"externalTrackId": `"` + randomHex(4) + `"`}
		if tc.name == "repeated track id" {
			tt.call("POST", "/data/v1/consents", token, `{"externalTrackId":"taken","personalTaxId":"`+testCPF+`","institutionCode":"001","redirectURL":"https://a.example"}`, 200)
		}
		for k, v := range base {
			if _, ok := fields[k]; !ok {
				fields[k] = v
			}
		}
		if tc.key != "" {
			fields[tc.key] = tc.value
		}
		var members []string
		for k, v := range fields {
			members = append(members, `"`+k+`":`+v)
		}
		resp, got := tt.do("POST", "/data/v1/consents", token, "{"+strings.Join(members, ",")+"}")
		if resp.StatusCode != tc.status || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %d %s, want %d %s", tc.name, resp.StatusCode, got, tc.status, tc.want)
		}
	}
}

func TestConsentLife(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	linkID, token := tt.link(access, `{"personalTaxId":"`+testCPF+`","businessTaxId":"`+testCNPJ+`"}`)
	personal, _ := tt.consent(token, "001", "")
	business, _ := tt.consent(token, "341", `,"businessTaxId":"`+testCNPJ+`"`)

	for query, want := range map[string]int{
		"": 2, "?personalTaxId=" + testCPF: 2, "?businessTaxId=" + testCNPJ: 1, "?linkId=" + linkID: 2, "?linkId=x": 0, "?personalTaxId=00000000000": 0,
	} {
		if got := len(tt.list("/data/v1/consents"+query, access)); got != want {
			t.Errorf("GET /consents%s: got %d, want %d", query, got, want)
		}
	}
	status := func(id string) any { return tt.call("GET", "/data/v1/consents/"+id, access, "", 200)["status"] }
	if got := status(personal); got != "AWAITING_AUTHORISATION" {
		t.Errorf("got %v, want AWAITING_AUTHORISATION", got)
	}
	tt.call("POST", "/_sandbox/consents/"+business+"/authorise", "", "", 200)
	if got := status(business); got != "AUTHORISED" {
		t.Errorf("got %v, want AUTHORISED", got)
	}
	got := tt.list("/data/v1/links/institutions/status", token)
	if fmt.Sprint(got) != "[map[institutionCode:001 name:Banco Exemplo status:AWAITING_AUTHORISATION] map[institutionCode:341 name:Banco Sempre Sim status:AUTHORISED]]" {
		t.Errorf("got %v", got)
	}

	tt.call("POST", "/_sandbox/clock", "", `{"advance":"60m"}`, 200)
	access = tt.login()
	if got := status(personal); got != "REJECTED" {
		t.Errorf("after an hour: got %v, want REJECTED", got)
	}
	tt.call("POST", "/_sandbox/consents/"+personal+"/authorise", "", "", 409)
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"8784h"}`, 200)
	access = tt.login()
	if got := status(business); got != "EXPIRED" {
		t.Errorf("after a year: got %v, want EXPIRED", got)
	}
	tt.call("GET", "/data/v1/consents/unknown", access, "", 404)
}

func TestRevoke(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	_, id := tt.authorised(access, "001", "{}", "")
	got := tt.call("DELETE", "/data/v1/consents/"+id+"/revoke", access, "", 200)
	if got["message"] != "ok" {
		t.Errorf("got %v, want message ok", got)
	}
	if got := tt.call("GET", "/data/v1/consents/"+id, access, "", 200)["status"]; got != "REVOKED" {
		t.Errorf("got %v, want REVOKED", got)
	}
	if got := tt.call("DELETE", "/data/v1/consents/"+id+"/revoke", access, "", 416)["statusCode"]; got != 4001.0 {
		t.Errorf("again: got %v, want 4001", got)
	}
	tt.call("DELETE", "/data/v1/consents/unknown/revoke", access, "", 404)
	_, token := tt.link(access, "{}")
	pending, _ := tt.consent(token, "001", "")
	tt.call("DELETE", "/data/v1/consents/"+pending+"/revoke", access, "", 200)
	if got := tt.call("GET", "/data/v1/consents/"+pending, access, "", 200)["status"]; got != "REJECTED" {
		t.Errorf("a pending one: got %v, want REJECTED", got)
	}
}

func TestTimeTurnsConsentsOverAlone(t *testing.T) {
	inBubble(t, Options{}, func(tt *tester) {
		_, token := tt.link(tt.login(), "{}")
		id, _ := tt.consent(token, "001", "")
		time.Sleep(61 * time.Minute)
		if got := tt.call("GET", "/data/v1/consents/"+id, tt.login(), "", 200)["status"]; got != "REJECTED" {
			t.Errorf("got %v, want REJECTED", got)
		}
	})
}

func TestReportRequests(t *testing.T) {
	tt := newTester(t, Options{Manual: true})
	access := tt.login()
	linkID, consentID := tt.authorised(access, "001", "{}", `,"businessTaxId":"`+testCNPJ+`"`)
	_, refused := tt.authorised(access, "655", "{}", `,"personalTaxId":"11111111111"`)
	for _, tc := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"personal/institution-data", `{"taxId":"25872252137","institutionCode":"001","products":["pf_loans"]}`, 200, `"message":"ok"`},
		{"personal/user-data", `{"taxId":"258.722.521-37","products":["pf_loans","pf_credit_card"]}`, 200, `"requestId":"`},
		{"personal/user-data", `{"taxId":"25872252137","products":["all"]}`, 200, `"requestId":"`},
		{"personal/institution-data", `{"taxId":"25872252137","institutionCode":"001","products":["all"]}`, 416, `"statusCode":4002`},
		{"business/institution-data", `{"taxId":"11222333000181","institutionCode":"001","products":["pj_loans"]}`, 200, `"requestId":"`},
		{"business/user-data", `{"taxId":"11222333000181","products":["pj_loans"]}`, 200, `"requestId":"`},
		{"personal/user-data", `{"taxId":"25872252137","products":["pf_loans"],"linkId":"` + linkID + `","consentIds":["` + consentID + `"]}`, 200, `"requestId":"`},
		{"personal/user-data", `{"taxId":"25872252137","products":["pf_loans"],"linkId":"x"}`, 416, `"statusCode":4001`},
		{"personal/user-data", `{"taxId":"25872252137","products":["pf_loans"],"consentIds":["` + refused + `"]}`, 416, `"statusCode":4001`},
		{"personal/user-data", `{"taxId":"00000000000","products":["pf_loans"]}`, 416, `"statusCode":4001`},
		{"personal/institution-data", `{"taxId":"25872252137","institutionCode":"341","products":["pf_loans"]}`, 416, `"statusCode":4001`},
		{"personal/institution-data", `{"taxId":"25872252137","institutionCode":"104","products":["pf_loans"]}`, 416, `"statusCode":4004`},
		{"personal/institution-data", `{"taxId":"25872252137","products":["pf_loans"]}`, 400, "institutionCode should not be empty"},
		{"personal/user-data", `{"products":["pf_loans"]}`, 400, "taxId should not be empty"},
		{"personal/user-data", `{"taxId":"11222333000181","products":["pf_loans"]}`, 400, "Invalid taxId"},
		{"personal/user-data", `{"taxId":"25872252137","products":[]}`, 416, `"statusCode":4005`},
		{"personal/user-data", `{"taxId":"25872252137"}`, 416, `"statusCode":4005`},
		{"personal/user-data", `{"taxId":"25872252137","products":["pj_loans"]}`, 416, `"statusCode":4002`},
		{"personal/user-data", `{"taxId":"25872252137","products":["pf_unknown"]}`, 416, `Product info does not exist or the product level is not correct`},
		{"personal/user-data", `{"taxId":"25872252137","products":"pf_loans"}`, 400, "products has the wrong type"},
		{"personal/user-data", `{"taxId":"25872252137","products":["pf_loans"],"productsCallbackURL":{"all":"https://a.example","other":"https://a.example"}}`, 416, `"statusCode":4006`},
		{"personal/user-data", `{"taxId":"11111111111","products":["pf_loans"]}`, 416, `"statusCode":4007`},
	} {
		if strings.Contains(tc.body, "11111111111") {
			tt.authorisedAs(access, "655", "11111111111")
		}
		resp, got := tt.do("POST", "/data/v1/"+tc.path, access, tc.body)
		if resp.StatusCode != tc.status || !strings.Contains(got, tc.want) {
			t.Errorf("%s %s: got %d %s, want %d %s", tc.path, tc.body, resp.StatusCode, got, tc.status, tc.want)
		}
	}
}

// authorisedAs makes an authorised consent of another person.
func (t *tester) authorisedAs(access, institution, cpf string) {
	t.Helper()
	_, token := t.link(access, "{}")
	m := t.call("POST", "/data/v1/consents", token, `{"externalTrackId":"`+randomHex(6)+`","personalTaxId":"`+cpf+
		`","institutionCode":"`+institution+`","redirectURL":"https://a.example"}`, 200)
	t.call("POST", "/_sandbox/consents/"+m["consentId"].(string)+"/authorise", "", "", 200)
}

func TestTasks(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	_, token := tt.link(access, "{}")
	_, stranger := tt.link(access, "{}")
	for _, tc := range []struct {
		institution string
		mfa         bool
		want        string
	}{
		{"290", false, "200 success"}, {"380", false, "402 fail"}, {"323", true, "200 success"},
	} {
		id := tt.call("POST", "/data/v1/tasks", token, `{"institutionCode":"`+tc.institution+`"}`, 200)["taskId"].(string)
		path := "/data/v1/tasks/" + id
		if got := tt.call("GET", path+"/status", token, "", 200)["status"]; got != "pending" {
			t.Errorf("%s: got %v at first, want pending", tc.institution, got)
		}
		tt.call("GET", path+"/status", stranger, "", 404)
		got := tt.call("GET", path+"/status", token, "", 200)
		if tc.mfa {
			if got["status"] != "needMFA" || got["mfaInfo"] == nil {
				t.Errorf("got %v, want needMFA with mfaInfo", got)
			}
			tt.call("POST", path+"/mfa", token, `{"code":"1"}`, 400)
			tt.call("POST", path+"/mfa", token, `{"mfaId":7,"code":"1"}`, 400)
			tt.call("POST", path+"/mfa", token, `{"mfaId":1001,"code":"1"}`, 200)
			got = tt.call("GET", path+"/status", token, "", 200)
		}
		if s := fmt.Sprint(got["code"], " ", got["status"]); s != tc.want {
			t.Errorf("%s: got %s, want %s", tc.institution, s, tc.want)
		}
	}
	tt.call("POST", "/data/v1/tasks", token, `{"institutionCode":"001"}`, 416)
	tt.call("POST", "/data/v1/tasks", token, `{}`, 400)
	if got := len(tt.list("/data/v1/links/institutions/status", token)); got != 3 {
		t.Errorf("got %d statuses, want 3", got)
	}
}

func TestBasicLink(t *testing.T) {
	tt := newTester(t, Options{})
	resp, _ := tt.do("GET", "/data/v1/basic-links/12345678?personal_tax_id="+testCPF+"&redirect_url=https%3A%2F%2Fapp.example%2F&products_callback_url=https%3A%2F%2Fh.example%2Fr", "", "")
	at := resp.Header.Get("Location")
	if resp.StatusCode != 302 || !strings.HasPrefix(at, "http://klavi.test/path?v=") {
		t.Fatalf("got %d to %q, want 302 to the hosted page", resp.StatusCode, at)
	}
	if resp, _ := tt.do("GET", strings.TrimPrefix(at, "http://klavi.test"), "", ""); resp.StatusCode != 200 {
		t.Errorf("hosted page: got %d, want 200", resp.StatusCode)
	}
	for query, want := range map[string]int{
		"12345678?phone=1": 400, "12345678?products_callback_url=http%3A%2F%2Fh.example": 416,
		"12345678?products_callback_url=%7B%22all%22%3A%22https%3A%2F%2Fh.example%22%7D": 302, "unknown": 404,
	} {
		if resp, _ := tt.do("GET", "/data/v1/basic-links/"+query, "", ""); resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", query, resp.StatusCode, want)
		}
	}
}
