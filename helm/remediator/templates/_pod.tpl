{{/* The pod, the same in both shapes. */}}
{{- define "remediator.pod" -}}
{{- $git := .Values.policies.gitSync }}
metadata:
  annotations:
    checksum/settings: {{ include "remediator.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "remediator.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "remediator.serviceAccountName" . }}
  # Only who acts on this cluster is given a token for it.
  automountServiceAccountToken: {{ not (empty (include "remediator.rules" . | fromJson).rules) }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq (include "remediator.store" .) "postgresql" }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- tpl (toYaml .Values.topologySpreadConstraints) . | nindent 4 }}
    {{- else }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "remediator.selectorLabels" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  {{- end }}
  {{- if or $git.enabled .Values.extraInitContainers }}
  initContainers:
    {{- if $git.enabled }}
    # The policies are there before the daemon starts.
    - name: git-sync-once
      {{- include "remediator.gitSync" (dict "root" . "once" true) | nindent 6 }}
    {{- end }}
    {{- with .Values.extraInitContainers }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: remediator
      image: {{ include "remediator.image" (dict "image" .Values.image "default" .Chart.AppVersion) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config=/etc/remediator/remediator.yaml
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- with .Values.extraEnv }}
      env:
        {{- tpl (toYaml .) $ | nindent 8 }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- tpl (toYaml .) $ | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
          protocol: TCP
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.startupProbe }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: settings
          mountPath: /etc/remediator/remediator.yaml
          subPath: remediator.yaml
          readOnly: true
        - name: policies
          mountPath: {{ $git.enabled | ternary "/policies" (include "remediator.policiesDir" .) }}
          readOnly: true
        {{- if or .Values.existingSecret .Values.store.existingSecret }}
        - name: secrets
          mountPath: /run/secrets/remediator
          readOnly: true
        {{- end }}
        - name: data
          mountPath: /var/lib/remediator
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- tpl (toYaml .) $ | nindent 8 }}
        {{- end }}
    {{- if $git.enabled }}
    - name: git-sync
      {{- include "remediator.gitSync" (dict "root" . "once" false) | nindent 6 }}
    {{- end }}
    {{- with .Values.extraContainers }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
  volumes:
    - name: settings
      configMap:
        name: {{ include "remediator.fullname" . }}
    - name: policies
      {{- if $git.enabled }}
      emptyDir: {}
      {{- else }}
      configMap:
        name: {{ include "remediator.policiesConfigMap" . }}
      {{- end }}
    {{- if or .Values.existingSecret .Values.store.existingSecret }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- with .Values.existingSecret }}
          - secret:
              name: {{ tpl . $ }}
          {{- end }}
          {{- with .Values.store.existingSecret }}
          - secret:
              name: {{ tpl . $ }}
              items:
                - key: {{ $.Values.store.existingSecretKey }}
                  path: REMEDIATOR_STORE_URL
          {{- end }}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- if eq (include "remediator.store" .) "postgresql" }}
    - name: data
      emptyDir: {}
    {{- else if and .Values.persistence.enabled .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ tpl .Values.persistence.existingClaim . }}
    {{- else if not .Values.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if and $git.enabled $git.existingSecret }}
    - name: git-secret
      secret:
        secretName: {{ tpl $git.existingSecret . }}
        defaultMode: 0440
    {{- end }}
    {{- if $git.enabled }}
    - name: git-tmp
      emptyDir: {}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The rest of a git-sync container (v4), after its name. */}}
{{- define "remediator.gitSync" -}}
{{- $root := .root }}
{{- $git := $root.Values.policies.gitSync }}
{{- $https := hasPrefix "http" $git.repo }}
image: {{ include "remediator.image" (dict "image" $git.image "default" "") }}
imagePullPolicy: {{ $git.image.pullPolicy }}
args:
  - --repo={{ $git.repo }}
  - --ref={{ $git.ref }}
  - --root=/policies
  - --link=current
  - --depth=1
  {{- if .once }}
  - --one-time
  - --max-failures=5
  {{- else }}
  - --period={{ $git.period }}
  # A git server that is away must not end the pod: the policies that are there stay in force.
  - --max-failures=-1
  {{- end }}
  {{- if $git.existingSecret }}
  {{- if $https }}
  - --password-file=/etc/git-secret/password
  {{- else }}
  - --ssh-key-file=/etc/git-secret/ssh
  - --ssh-known-hosts-file=/etc/git-secret/known_hosts
  {{- end }}
  {{- end }}
{{- if or $git.extraEnv (and $git.existingSecret $https) }}
env:
  {{- if and $git.existingSecret $https }}
  - name: GITSYNC_USERNAME
    valueFrom:
      secretKeyRef:
        name: {{ tpl $git.existingSecret $root }}
        key: username
  {{- end }}
  {{- with $git.extraEnv }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml (mergeOverwrite (deepCopy $root.Values.securityContext) (dict "runAsUser" 65533) $git.securityContext) | nindent 2 }}
{{- with $git.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: policies
    mountPath: /policies
  - name: git-tmp
    mountPath: /tmp
  {{- if $git.existingSecret }}
  - name: git-secret
    mountPath: /etc/git-secret
    readOnly: true
  {{- end }}
{{- end }}
