package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// plainCaddyfile is Caddy without the gateway. Neither logs requests.
const plainCaddyfile = `{
	admin $plainAdmin
	auto_https off
	persist_config off
}

http://$plainConsents {
	reverse_proxy $backend {
		header_up Authorization "Bearer $accessToken"
	}
}

http://$plainInstitutions {
	reverse_proxy $backend {
		header_up Authorization "Bearer $linkToken"
	}
}
`

// gatewayCaddyfile is as the examples are.
const gatewayCaddyfile = `{
	admin $admin
	auto_https off
	persist_config off
	log {
		format klavi
	}
	klavi {
		base_url   http://$backend/data/v1
		access_key $accessKey
		secret_key $secretKey
	}
}

http://$proxy {
	klavi_proxy
}

http://$frontend {
	klavi_frontend /klavi {
		public
		redirect_urls https://app.example.com/connected
	}
}

http://$reports {
	klavi_reports /klavi/reports {
		direct
		all http://$backend/reports
	}
}
`

// nginxConf does what the plain faces of Caddy do, in one process.
const nginxConf = `daemon off;
master_process off;
pid $dir/nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path $dir/nginx-body;
	proxy_temp_path $dir/nginx-proxy;
	fastcgi_temp_path $dir/nginx-fastcgi;
	uwsgi_temp_path $dir/nginx-uwsgi;
	scgi_temp_path $dir/nginx-scgi;
	keepalive_requests 1000000000;
	upstream backend {
		server $backend;
		keepalive 64;
		keepalive_requests 1000000000;
	}
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	server {
		listen $nginxConsents;
		location / {
			proxy_pass http://backend;
			proxy_set_header Authorization "Bearer $accessToken";
		}
	}
	server {
		listen $nginxInstitutions;
		location / {
			proxy_pass http://backend;
			proxy_set_header Authorization "Bearer $linkToken";
		}
	}
}
`

// house is where all programs of the benchmark live.
type house struct {
	dir   string
	names map[string]string // what stands for $name in the configs
}

// newHouse makes a folder, and chooses addresses on the loopback interface.
func newHouse() (*house, error) {
	dir, err := os.MkdirTemp("", "caddy-klavi-bench")
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir, names: map[string]string{
		"dir": dir, "accessKey": accessKey, "secretKey": secretKey, "accessToken": accessToken, "linkToken": linkToken,
	}}
	for _, name := range []string{
		"backend", "admin", "plainAdmin", "plainConsents", "plainInstitutions", "proxy", "frontend", "reports", "nginxConsents", "nginxInstitutions",
	} {
		// All are open until all are chosen: no two are the same.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		h.names[name] = listener.Addr().String()
	}
	return h, nil
}

// config writes a config with the names replaced, and returns its path.
func (h *house) config(name, text string) (string, error) {
	path := filepath.Join(h.dir, name)
	return path, os.WriteFile(path, []byte(os.Expand(text, func(name string) string { return h.names[name] })), 0o600)
}

// build builds Caddy with the gateway, from the checkout that this program runs in.
func (h *house) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", h.caddy(), "github.com/caddy-klavi/caddy-klavi/cmd/caddy")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building cmd/caddy: %w", err)
	}
	return nil
}

func (h *house) caddy() string { return filepath.Join(h.dir, "caddy") }

// startBackend runs this program once more, as the backend.
func (h *house) startBackend(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return h.start(ctx, "backend", h.names["backend"], []string{self, "backend", h.names["backend"]})
}

// startGateway and startPlain run the same program with other configs.
func (h *house) startGateway(ctx context.Context) (*process, error) {
	return h.startCaddy(ctx, "gateway", gatewayCaddyfile, "proxy")
}

func (h *house) startPlain(ctx context.Context) (*process, error) {
	return h.startCaddy(ctx, "plain", plainCaddyfile, "plainConsents")
}

func (h *house) startCaddy(ctx context.Context, name, caddyfile, address string) (*process, error) {
	config, err := h.config(name+".Caddyfile", caddyfile)
	if err != nil {
		return nil, err
	}
	return h.start(ctx, name, h.names[address], []string{h.caddy(), "run", "--adapter", "caddyfile", "--config", config})
}

// startNginx returns nil if there is no nginx on this machine.
func (h *house) startNginx(ctx context.Context) (*process, error) {
	path, err := exec.LookPath("nginx")
	if errors.Is(err, exec.ErrNotFound) {
		path, err = exec.LookPath("/usr/sbin/nginx") // which is not everybody's path
	}
	if err != nil {
		return nil, nil //nolint:nilnil // none is not an error
	}
	config, err := h.config("nginx.conf", nginxConf)
	if err != nil {
		return nil, err
	}
	return h.start(ctx, "nginx", h.names["nginxConsents"], []string{path, "-e", "stderr", "-p", h.dir, "-c", config})
}

// start runs a program, and returns when it listens. With an error, the program
// may have to be ended all the same.
func (h *house) start(ctx context.Context, name, address string, command []string) (*process, error) {
	log := filepath.Join(h.dir, name+".log")
	p, err := start(ctx, log, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if c, err := dial(address); err == nil {
			c.close()
			return p, nil
		}
	}
	text, _ := os.ReadFile(log)
	return p, fmt.Errorf("%s does not listen at %s; it says:\n%s", name, address, strings.TrimSpace(string(text)))
}
