package conformance

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Options are what a run needs.
type Options struct {
	Target *Target
	// LinkToken is what POST <prefix>/links of the target answered as linkToken.
	LinkToken string
	// Headers are sent with each request, for sites with a login.
	Headers []Header
	// Roots are the authorities whose certificates count. Default: the system's.
	Roots *x509.CertPool
	// CreateConsents has lines sent that create a consent or a link, or would if
	// the target let them through.
	CreateConsents bool
	// Log gets a line of text now and then. Required.
	Log func(text string)
}

// Result is what became of one line.
type Result struct {
	ID       string   `json:"id"`
	Category string   `json:"category"`
	What     string   `json:"what"`
	Want     string   `json:"want"`
	Got      []Answer `json:"got,omitempty"`
	Verdict  Verdict  `json:"verdict"`
	Note     string   `json:"note,omitempty"`
}

const (
	maxWait     = time.Minute     // the longest Retry-After that is waited for
	defaultWait = 5 * time.Second // without one
	logEach     = 25              // lines
)

// linkTokens are the characters of a bearer token (RFC 6750).
var linkTokens = regexp.MustCompile(`^[A-Za-z0-9._~+/-]{8,}=*$`)

// CheckLinkToken checks what a link token is written with. Errors do not repeat it.
func CheckLinkToken(token string) error {
	if linkTokens.MatchString(token) {
		return nil
	}
	return errors.New("it must be what POST <prefix>/links answered as linkToken: letters, digits and . _ ~ + / - only, without spaces")
}

// run is one run over the corpus.
type run struct {
	Options
	lines   []Line
	control *Line // the first that the target must serve
	wire    wire
	wait    func(context.Context, time.Duration) error
}

// Run sends the corpus, one line after the other. An error says why that was not
// possible, or why it stopped; the results until then are returned with it.
func Run(ctx context.Context, o Options) ([]Result, error) {
	lines, err := Corpus()
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, lines: lines, wire: wire{target: o.Target, roots: o.Roots, timeout: timeout}, wait: sleep}
	return r.all(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) all(ctx context.Context) ([]Result, error) {
	for i := range r.lines {
		if r.lines[i].Category == "control" && !postLike.MatchString(r.lines[i].Raw) {
			r.control = &r.lines[i]
			break
		}
	}
	if err := r.checkControl(ctx); err != nil {
		return nil, err
	}
	var results []Result
	guard := guard{create: r.CreateConsents}
	if !r.CreateConsents {
		probe, err := r.probe(ctx, &guard)
		if err != nil {
			return nil, err
		}
		results = append(results, probe)
	}
	failed := 0
	for i := range r.lines {
		result, err := r.one(ctx, &r.lines[i], guard)
		if err != nil {
			return results, fmt.Errorf("at line %s: %w", r.lines[i].ID, err)
		}
		results = append(results, result)
		if result.Verdict == Fail {
			failed++
		}
		guard.learn(result)
		if (i+1)%logEach == 0 {
			r.Log(fmt.Sprintf("%d of %d lines, %d failed", i+1, len(r.lines), failed))
		}
	}
	return results, nil
}

// one sends a line, if it may be sent, and judges the answers.
func (r *run) one(ctx context.Context, l *Line, g guard) (Result, error) {
	wants, err := l.Wants()
	if err != nil {
		return Result{}, err
	}
	texts := make([]string, 0, len(wants))
	for _, w := range wants {
		texts = append(texts, w.String())
	}
	result := Result{ID: l.ID, Category: l.Category, What: l.What, Want: strings.Join(texts, ", "), Verdict: Skipped}
	if result.Note = g.skip(l.Raw, wants); result.Note != "" {
		return result, nil
	}
	q, bytes, err := r.write(l)
	if unwritable, ok := errors.AsType[unwritableError](err); ok {
		result.Note = unwritable.Error()
		return result, nil
	}
	if err != nil {
		return Result{}, err
	}
	if result.Got, err = r.send(ctx, bytes); err != nil {
		return result, err
	}
	for _, a := range result.Got {
		if a.Type == "link-expired" {
			if err := r.checkControl(ctx); err != nil {
				return result, err
			}
		}
	}
	result.Verdict, result.Note = q.judge(wants, result.Got)
	return result, nil
}

// write returns a line as it is sent to the target.
func (r *run) write(l *Line) (request, []byte, error) {
	raw, err := l.unshortened()
	if err != nil {
		return request{}, nil, err
	}
	written, err := r.Target.rewrite(raw, r.Headers)
	if err != nil {
		return request{}, nil, err
	}
	q := request{line: l, below: r.Target.isBelow(written), post: strings.HasPrefix(l.Raw, "POST ")}
	return q, fill(written, r.LinkToken), nil
}

// isBelow reports whether a request names the target's host, and a path that
// every reader takes to be below the prefix.
func (t *Target) isBelow(raw string) bool {
	_, target, _ := strings.Cut(raw, " ")
	target, _, _ = strings.Cut(target, " ")
	target, _, _ = strings.Cut(target, "?")
	rest, found := strings.CutPrefix(target, t.prefix)
	return found && (rest == "" || rest[0] == '/') && !upwards.MatchString(rest) && strings.Contains(raw, "\nHost: "+t.host()+"\r\n")
}

var upwards = regexp.MustCompile(`(?i)(\.|%(25)*2e){2}`)

// send sends a request, and once more if the target asks for patience.
func (r *run) send(ctx context.Context, raw []byte) ([]Answer, error) {
	answers, err := r.wire.send(ctx, raw)
	if err != nil {
		return nil, err
	}
	limited := limitedBy(answers)
	if limited == nil {
		return answers, nil
	}
	pause := defaultWait
	if seconds, err := strconv.Atoi(limited.retryAfter); err == nil && seconds > 0 {
		pause = time.Duration(min(seconds, 1<<20)) * time.Second
	}
	if pause > maxWait {
		return nil, fmt.Errorf("the target limits the rate (429) and asks for a pause of %s", pause)
	}
	r.Log(fmt.Sprintf("the target limits the rate (429): going on in %s", pause))
	if err := r.wait(ctx, pause); err != nil {
		return nil, err
	}
	if answers, err = r.wire.send(ctx, raw); err != nil {
		return nil, err
	}
	if limitedBy(answers) != nil {
		return nil, errors.New("the target limits the rate (429), also after the pause that it asked for: give it some time, or a higher limit")
	}
	return answers, nil
}

func limitedBy(answers []Answer) *Answer {
	for i := range answers {
		if answers[i].Status == http.StatusTooManyRequests {
			return &answers[i]
		}
	}
	return nil
}

// checkControl returns an error unless the target serves what it must: then no
// refusal would show anything.
func (r *run) checkControl(ctx context.Context) error {
	q, raw, err := r.write(r.control)
	if err != nil {
		return err
	}
	answers, err := r.send(ctx, raw)
	if err != nil {
		return err
	}
	if v, _ := q.judge([]Want{Allow}, answers); v == OK {
		return nil
	}
	return fmt.Errorf("%s: GET %s/institutions was not served, but answered with %s: %s",
		r.Target, r.Target.prefix, answers[0], cmp.Or(hints[answers[0].Type], hint(answers[0])))
}

// hints say what to do about a problem that the control entry gets.
var hints = map[string]string{
	"login-required": "the site wants a login; give what your page would send, such as --header 'Cookie: ...'",
	"link-invalid":   "the link token is not accepted; it must be the linkToken of this site's POST /links, whole",
	"link-expired":   "the link token has run out; create a new link",
	"not-yours":      "the link token is not of the user whose login --header gives",
	"not-found":      "klavi_frontend is there, but its prefix is another one, or flow whitelabel closes the endpoint",
}

func hint(a Answer) string {
	switch {
	case a.Type != "" && problems[a.Type] == forwarded:
		return "Klavi cannot be asked through it at the moment"
	case a.Type != "":
		return "nothing can be tested before that works"
	case a.None != "":
		return "is it the right scheme, https or http?"
	case a.Status/100 == 3:
		return "--target must be the address to which it redirects; or the site wants a login, see --header"
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		return "that is not of klavi_frontend; a login before it? See --header. Or the link token is not accepted"
	}
	return "that is not of klavi_frontend; --target must end in its prefix"
}
